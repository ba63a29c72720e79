"Every tutorial, run from top to bottom in a real JupyterLab, by the wheel in an environment of its own"
import json
import os
import subprocess
import time
import urllib.request
import venv
from pathlib import Path

import pytest
from conftest import CHROMIUM, ROOT, jupyterlab

TUTORIALS = sorted((ROOT/'nbs'/'tutorials').glob('*.ipynb'))
LONGEST_LINE = 87   # wider code scrolls sideways on the site

needs_browser = pytest.mark.skipif(
    CHROMIUM is None,
    reason='no chromium on PATH: the tutorials were not run in JupyterLab (Debian: apt-get install chromium)')
HELP_CELL = '%load_ext bonefrac\nimport bonefrac.evaluation; print(bonefrac.__file__)\nbonefrac.evaluation.evaluate?'


def cells_of(notebook):
    return json.loads(notebook.read_text(encoding='utf-8'))['cells']


def code_cells(notebook):
    return [c for c in cells_of(notebook) if c['cell_type'] == 'code' and c['source']]


@pytest.mark.parametrize('notebook', TUTORIALS, ids=lambda path: path.stem)
def test_code_lines_fit_the_page(notebook):
    lines = [line for c in code_cells(notebook) for line in ''.join(c['source']).splitlines()]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize('notebook', TUTORIALS, ids=lambda path: path.stem)
def test_outputs_are_stored_and_plots_are_png(notebook):
    outputs = [o for c in code_cells(notebook) for o in c['outputs']]
    assert outputs, 'run the tutorial and store its outputs: make notebooks'
    assert not [o for o in outputs if o['output_type'] == 'error']
    assert not [o for o in outputs if 'image/svg+xml' in o.get('data', {}) and 'image/png' not in o['data']]


def without_outputs(notebook):
    "The text of a notebook as if it had never been run"
    nb = json.loads(notebook.read_text(encoding='utf-8'))
    for cell in nb['cells']:
        if cell['cell_type'] == 'code':
            cell.update(outputs=[], execution_count=None)
    return json.dumps(nb)


def help_notebook():
    "The text of a notebook that says which package it imports, and asks for help"
    cell = dict(cell_type='code', id='a', metadata={}, execution_count=None, outputs=[], source=HELP_CELL)
    metadata = json.loads(TUTORIALS[0].read_text(encoding='utf-8'))['metadata']
    return json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=metadata, cells=[cell]))


def installed(wheel, home):
    "An environment with the wheel and what the tutorials need"
    venv.create(home, with_pip=False)
    uv = Path(os.sys.executable).with_name('uv')
    what = f'bonefrac[train,lab] @ {wheel.as_uri()}'
    command = [uv, 'pip', 'install', '-q', '--python', home/'bin'/'python', what]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope='module')
def lab(wheel, cache, tmp_path_factory):
    "JupyterLab beside the wheel, on copies of the tutorials; (its address, its folder, its environment)"
    home = installed(wheel, tmp_path_factory.mktemp('user')/'env')
    folder = tmp_path_factory.mktemp('tutorials')
    for notebook in TUTORIALS:
        (folder/notebook.name).write_text(without_outputs(notebook))
    (folder/'where.ipynb').write_text(help_notebook())
    dropped = {name: '' for name in os.environ if name.startswith('PYTHON')}
    dropped |= {'BONEFRAC_DATA': '', 'BONEFRAC_WEIGHTS': ''}
    with jupyterlab(home/'bin', folder, **dropped, BONEFRAC_CACHE=str(cache)) as address:
        yield address, folder, home


def errors_in(notebook):
    outputs = [o for c in code_cells(notebook) for o in c['outputs']]
    return [o['traceback'][-1] for o in outputs if o['output_type'] == 'error']


def ended(notebook):
    return all(c['execution_count'] for c in code_cells(notebook)) or bool(errors_in(notebook))


def start_all_cells(page, notebook, end):
    "Choose Run All Cells until something runs: a click on a page that is not ready yet does nothing"
    busy = page.locator('.jp-Notebook-ExecutionIndicator[data-status=busy]')
    while not busy.count() and not ended(notebook) and time.time() < end:
        page.wait_for_timeout(1000)
        page.get_by_role('menuitem', name='Run', exact=True).click()
        page.get_by_role('menuitem', name='Run All Cells', exact=True).click()
        page.wait_for_timeout(2000)
        page.keyboard.press('Control+s')
        page.wait_for_timeout(500)


def wait_until_ended(page, notebook, end):
    "Save the notebook again and again, until every cell has run"
    while not ended(notebook) and time.time() < end:
        page.wait_for_timeout(2000)
        page.keyboard.press('Control+s')
        page.wait_for_timeout(1000)


def end_kernels(address):
    for session in json.load(urllib.request.urlopen(f'{address}/api/sessions')):
        url = f"{address}/api/sessions/{session['id']}"
        urllib.request.urlopen(urllib.request.Request(url, method='DELETE'))


def run_all(lab, name, seconds=900):
    "Open a notebook, run all of its cells, end its kernel; what the page shows then"
    from playwright.sync_api import sync_playwright
    address, folder, _ = lab
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.goto(f'{address}/lab/tree/{name}?reset')
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=120_000)
        end = time.time() + seconds
        start_all_cells(page, folder/name, end)
        wait_until_ended(page, folder/name, end)
        shown = page.locator('body').inner_text()
        if shots := os.environ.get('BONEFRAC_SCREENSHOTS'):
            page.screenshot(path=f'{shots}/lab-{Path(name).stem}.png')
        browser.close()
    end_kernels(address)
    return shown


@needs_browser
@pytest.mark.slow
def test_lab_runs_the_wheel_and_its_help_names_the_parameters(lab):
    shown = run_all(lab, 'where.ipynb')
    printed = ''.join(code_cells(lab[1]/'where.ipynb')[0]['outputs'][0]['text'])
    assert str(lab[2]) in printed and str(ROOT) not in printed
    assert '# Findings table with labels' in shown


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize('name', [path.name for path in TUTORIALS])
def test_tutorial(lab, name):
    start = time.time()
    run_all(lab, name)
    print(f'{name}: {time.time() - start:.0f} s')
    notebook = lab[1]/name
    assert errors_in(notebook) == []
    assert all(c['execution_count'] for c in code_cells(notebook))
