"Every tutorial, run from top to bottom in a real JupyterLab, by the wheel in an environment of its own"
import json
import os
import shutil
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
    for notebook in TUTORIALS: shutil.copy(notebook, folder)
    (folder/'where.ipynb').write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=json.loads(TUTORIALS[0].read_text())['metadata'],
                                                      cells=[dict(cell_type='code', id='a', metadata={}, execution_count=None, outputs=[], source='import bonefrac.evaluation; print(bonefrac.__file__)\nbonefrac.evaluation.evaluate?')])))
    dropped = {k: '' for k in os.environ if k.startswith('PYTHON')} | {'BONEFRAC_DATA': '', 'BONEFRAC_WEIGHTS': ''}
    with jupyterlab(home/'bin', folder, **dropped, BONEFRAC_CACHE=str(cache)) as address: yield address, folder, home


def busy(address): return any(k['execution_state'] != 'idle' for k in json.load(urllib.request.urlopen(f'{address}/api/kernels')))


def run_all(address, name, seconds=600):
    "Open a notebook, Run All Cells, wait, save, end its kernel"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.goto(f'{address}/lab/tree/{name}?reset')
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=120_000)
        page.get_by_role('menuitem', name='Run', exact=True).click()
        page.get_by_role('menuitem', name='Run All Cells', exact=True).click()
        end, quiet = time.time() + seconds, 0
        while quiet < 3 and time.time() < end:
            page.wait_for_timeout(1000)
            quiet = 0 if busy(address) else quiet + 1
        shown = page.locator('body').inner_text()
        page.locator('.jp-Notebook').first.click(position=dict(x=5, y=5))
        page.keyboard.press('Control+s')
        page.wait_for_timeout(3000)
        if shots := os.environ.get('BONEFRAC_SCREENSHOTS'): page.screenshot(path=f'{shots}/lab-{Path(name).stem}.png')
        browser.close()
    for kernel in json.load(urllib.request.urlopen(f'{address}/api/sessions')): urllib.request.urlopen(urllib.request.Request(f"{address}/api/sessions/{kernel['id']}", method='DELETE'))
    return shown


@needs_browser
def test_lab_runs_the_wheel_and_its_help_names_the_parameters(lab):
    address, folder, home = lab
    shown = run_all(address, 'where.ipynb')
    said = ''.join(json.loads((folder/'where.ipynb').read_text())['cells'][0]['outputs'][0]['text'])
    assert str(home) in said and str(ROOT) not in said
    assert '# Findings table with labels' in shown


@needs_browser
@pytest.mark.parametrize('name', [p.name for p in TUTORIALS])
def test_tutorial(lab, name):
    address, folder, _ = lab
    before, start = (folder/name).read_text(), time.time()
    run_all(address, name)
    print(f'{name}: {time.time() - start:.0f} s')
    cells = [c for c in json.loads((folder/name).read_text())['cells'] if c['cell_type'] == 'code' and c['source']]
    assert (folder/name).read_text() != before
    errors = [o for c in cells for o in c['outputs'] if o['output_type'] == 'error']
    assert errors == [] and all(c['execution_count'] for c in cells), errors
