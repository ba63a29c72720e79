"What bonefrac does to a session, and the review widget in a real JupyterLab, in a real browser"
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import CHROMIUM, jupyterlab

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason='no chromium on PATH: the widget was not driven in a browser (Debian: apt-get install chromium)')


@pytest.mark.parametrize('first, hooks', [('import bonefrac', 0), ('import bonefrac.jupyter', 0), ('shell.run_line_magic("load_ext", "bonefrac")', 1)])
def test_only_load_ext_changes_the_help(first, hooks):
    code = f"from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n{first}\nprint(len(shell.inspector.mime_hooks))"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.split()[-1:] == [str(hooks)], done.stderr


def test_alternative_texts_say_label_and_answer(images):
    from bonefrac.jupyter import show_radiographs
    table = pd.DataFrame(dict(path=list(map(str, images)), label='fractured', answer=['fracture', 'doubt'] * 3))
    shown = show_radiographs(table)._repr_html_()
    assert shown.count('alt="radiograph, labelled fractured, predicted fracture"') == 3
    assert 'alt="radiograph, without a label"' in show_radiographs(table[['path']])._repr_html_()
    assert 'alt="radiograph, labelled &lt;script&gt;"' in show_radiographs(table[['path']].assign(label='<script>'))._repr_html_()


def test_an_image_that_cannot_be_read_says_why():
    from bonefrac.jupyter import show_radiographs
    assert 'no such file' in show_radiographs(pd.DataFrame({'path': ['gone.png']}))._repr_html_()


@pytest.fixture
def lab(tmp_path):
    "A JupyterLab server with a notebook that reviews six phantoms; (its address, its folder)"
    from bonefrac.phantoms import phantom_dataset
    images, _ = phantom_dataset(6, tmp_path/'images')
    p = [.9, .2, .7, .4, .6, .1]
    images.assign(**{'p_not fractured': p, 'p_fractured': [1 - q for q in p], 'in_training': False}).to_csv(tmp_path/'findings.csv', index=False)
    source = "import pandas as pd\nfrom bonefrac.review import Review\nReview(pd.read_csv('findings.csv', keep_default_na=False), decisions='decisions.csv')"
    cell = dict(cell_type='code', id='review', metadata={}, execution_count=None, outputs=[], source=source)
    (tmp_path/'review.ipynb').write_text(json.dumps(dict(cells=[cell], metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')), nbformat=4, nbformat_minor=5)))
    with jupyterlab(Path(sys.executable).parent, tmp_path) as address: yield address, tmp_path


def open_review(page, address):
    "Open the notebook, run its cell, wait for the image"
    page.goto(f'{address}/lab/tree/review.ipynb?reset')
    page.wait_for_selector('.jp-Notebook .jp-CodeCell', timeout=90_000)
    page.locator('.jp-Notebook .jp-CodeCell .jp-InputArea-editor').first.click()
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=90_000)
    page.keyboard.press('Shift+Enter')
    page.wait_for_selector('.bonefrac-review img', timeout=90_000)


@needs_browser
def test_three_decisions_by_key_survive_a_reload(lab):
    from playwright.sync_api import sync_playwright
    address, folder = lab
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page(viewport=dict(width=1280, height=900))
        open_review(page, address)
        for i, key in enumerate('lmu', 1):
            page.locator('.bonefrac-review img').hover()
            page.locator('.bonefrac-review img').click()
            page.keyboard.press(key)
            page.wait_for_selector(f'.bonefrac-review >> text="{i + 1} of 6"', timeout=30_000)
        decided = pd.read_csv(folder/'decisions.csv')
        assert decided.decision.tolist() == ['label wrong', 'model wrong', 'unclear']
        page.on('dialog', lambda d: d.accept())
        page.reload()
        open_review(page, address)
        assert '3 decided' in page.locator('.bonefrac-review').inner_text() and '4 of 6' in page.locator('.bonefrac-review').inner_text()
        if shots := os.environ.get('BONEFRAC_SCREENSHOTS'): page.screenshot(path=f'{shots}/review.png')
        browser.close()
    assert pd.read_csv(folder/'decisions.csv').equals(decided)
