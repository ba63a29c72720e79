"""Pictures of the page for the docs, with drawn images only: nbs/images/page-1280.jpg and page-390.jpg.

    python tools/screenshots.py     (needs chromium on PATH)
"""
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

OUT = Path(__file__).parents[1]/'nbs'/'images'
SIZES = {1280: (1130, 'light'), 390: (1500, 'dark')}


def shoot(browser, address, width, height, scheme):
    page = browser.new_page(viewport=dict(width=width, height=height), color_scheme=scheme)
    page.goto(address)
    page.get_by_role('button', name='Try drawn examples').click(timeout=60_000)
    page.wait_for_selector('.stage')
    page.wait_for_selector('[data-testid=stStatusWidget]', state='detached')
    page.locator('img.evidence').first.evaluate('e => e.decode()')
    page.screenshot(path=OUT/f'page-{width}.jpg', type='jpeg', quality=80)


with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
server = subprocess.Popen([Path(sys.executable).with_name('bonefrac'), 'app', '--port', str(port), '--quiet'])
try:
    for _ in range(240):
        try: urllib.request.urlopen(f'http://127.0.0.1:{port}/_stcore/health', timeout=2); break
        except OSError: time.sleep(.25)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        for width, (height, scheme) in SIZES.items(): shoot(browser, f'http://127.0.0.1:{port}', width, height, scheme)
finally: server.terminate(); server.wait(20)
