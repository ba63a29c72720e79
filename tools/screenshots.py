"""The images that no notebook draws, all of phantoms: nbs/images/page-1280.jpg, page-390.jpg and prediction.png.

    python tools/screenshots.py           (needs chromium on PATH, and runs/demo from `bonefrac demo`)
    python tools/screenshots.py page      (one of them: page, prediction)
"""
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT/'nbs'/'images'
DEMO = (ROOT/'runs'/'demo').resolve()
SIZES = {1280: (1130, 'light'), 390: (1500, 'dark')}


def prediction():
    "One prediction of each answer: the radiograph, and the same with its evidence"
    import matplotlib.pyplot as plt
    from bonefrac.tables import read_images_csv
    from bonefrac.prediction import Predictor
    findings, predictor = read_images_csv(DEMO/'findings.csv'), Predictor(DEMO/'bundle')
    right = findings[(findings.answer == 'doubt') | ((findings.answer == 'fracture') == (findings.label == 'fractured'))]
    fig, axes = plt.subplots(1, 4, figsize=(10, 2.9), dpi=110)
    shown = [predictor.predict(right.path[right.answer == answer].iloc[0]) for answer in ('fracture', 'doubt', 'no fracture')]
    shown[0].show(evidence=False, ax=axes[0]).set_title('phantom')
    for one, ax in zip(shown, axes[1:]):
        one.show(ax=ax)
    fig.tight_layout(pad=.4)
    fig.savefig(OUT/'prediction.png', bbox_inches='tight', pad_inches=.02)


def shoot(browser, address, width, height, scheme):
    "The page with a drawn example, in one size"
    page = browser.new_page(viewport=dict(width=width, height=height), color_scheme=scheme)
    page.goto(address)
    page.get_by_role('button', name='Try drawn examples').click(timeout=60_000)
    page.wait_for_selector('.stage')
    page.wait_for_selector('[data-testid=stStatusWidget]', state='detached')
    page.locator('img.evidence').first.evaluate('e => e.decode()')
    page.screenshot(path=OUT/f'page-{width}.jpg', type='jpeg', quality=80)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_for(address, seconds=60):
    "Return as soon as the page answers"
    for _ in range(4 * seconds):
        try:
            return urllib.request.urlopen(f'{address}/_stcore/health', timeout=2)
        except OSError:
            time.sleep(.25)


def page():
    "The page that `bonefrac app` opens, on a desk and on a phone"
    from playwright.sync_api import sync_playwright
    port = free_port()
    command = [Path(sys.executable).with_name('bonefrac'), 'app', '--port', str(port), '--quiet']
    server = subprocess.Popen(command)
    address = f'http://127.0.0.1:{port}'
    try:
        wait_for(address)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
            for width, (height, scheme) in SIZES.items():
                shoot(browser, address, width, height, scheme)
    finally:
        server.terminate()
        server.wait(20)


if __name__ == '__main__':
    for name in sys.argv[1:] or ('prediction', 'page'):
        {'prediction': prediction, 'page': page}[name]()
