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
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason='no chromium on PATH: the tutorials were not run in JupyterLab (Debian: apt-get install chromium)')


@pytest.fixture(scope='module')
def lab(wheel, cache, tmp_path_factory):
    "JupyterLab beside the wheel and its extras, on copies of the tutorials; (its address, its folder, its environment)"
    home, folder = tmp_path_factory.mktemp('user')/'env', tmp_path_factory.mktemp('tutorials')
    venv.create(home, with_pip=False)
    uv = Path(os.sys.executable).with_name('uv')
    done = subprocess.run([uv, 'pip', 'install', '-q', '--python', home/'bin'/'python', f'bonefrac[train,lab] @ {wheel.as_uri()}'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for notebook in TUTORIALS:
        nb = json.loads(notebook.read_text(encoding='utf-8'))
        for c in nb['cells']: c.update(dict(outputs=[], execution_count=None) if c['cell_type'] == 'code' else {})
        (folder/notebook.name).write_text(json.dumps(nb))
    (folder/'where.ipynb').write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=json.loads(TUTORIALS[0].read_text())['metadata'],
                                                      cells=[dict(cell_type='code', id='a', metadata={}, execution_count=None, outputs=[], source='import bonefrac.evaluation; print(bonefrac.__file__)\nbonefrac.evaluation.evaluate?')])))
    dropped = {k: '' for k in os.environ if k.startswith('PYTHON')} | {'BONEFRAC_DATA': '', 'BONEFRAC_WEIGHTS': ''}
    with jupyterlab(home/'bin', folder, **dropped, BONEFRAC_CACHE=str(cache)) as address: yield address, folder, home


def code_cells(notebook): return [c for c in json.loads(notebook.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code' and c['source']]


def ended(notebook): return all(c['execution_count'] for c in code_cells(notebook)) or any(o['output_type'] == 'error' for c in code_cells(notebook) for o in c['outputs'])


def run_all(lab, name, seconds=900):
    "Open a notebook, Run All Cells, save until every cell has run, end its kernel; what the page shows then"
    from playwright.sync_api import sync_playwright
    address, folder, _ = lab
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.goto(f'{address}/lab/tree/{name}?reset')
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=120_000)
        end = time.time() + seconds
        while not page.locator('.jp-Notebook-ExecutionIndicator[data-status=busy]').count() and not ended(folder/name) and time.time() < end:   # a click on a page that is not ready yet does nothing
            page.wait_for_timeout(1000)
            page.get_by_role('menuitem', name='Run', exact=True).click()
            page.get_by_role('menuitem', name='Run All Cells', exact=True).click()
            page.wait_for_timeout(2000)
            page.keyboard.press('Control+s')
            page.wait_for_timeout(500)
        while not ended(folder/name) and time.time() < end:
            page.wait_for_timeout(2000)
            page.keyboard.press('Control+s')
            page.wait_for_timeout(1000)
        shown = page.locator('body').inner_text()
        if shots := os.environ.get('BONEFRAC_SCREENSHOTS'): page.screenshot(path=f'{shots}/lab-{Path(name).stem}.png')
        browser.close()
    for session in json.load(urllib.request.urlopen(f'{address}/api/sessions')): urllib.request.urlopen(urllib.request.Request(f"{address}/api/sessions/{session['id']}", method='DELETE'))
    return shown


@needs_browser
def test_lab_runs_the_wheel_and_its_help_names_the_parameters(lab):
    shown = run_all(lab, 'where.ipynb')
    said = ''.join(code_cells(lab[1]/'where.ipynb')[0]['outputs'][0]['text'])
    assert str(lab[2]) in said and str(ROOT) not in said
    assert '# Findings table with labels' in shown


@needs_browser
@pytest.mark.parametrize('name', [p.name for p in TUTORIALS])
def test_tutorial(lab, name):
    start = time.time()
    run_all(lab, name)
    print(f'{name}: {time.time() - start:.0f} s')
    cells = code_cells(lab[1]/name)
    errors = [o['traceback'][-1] for c in cells for o in c['outputs'] if o['output_type'] == 'error']
    assert errors == [] and all(c['execution_count'] for c in cells), errors
