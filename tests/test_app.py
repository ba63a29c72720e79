"The page in a real browser"
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='no chromium on PATH: the page was not driven in a browser (Debian: apt-get install chromium)')
PATIENT = ('DOE^JANE', 'ID-4711', '19700101', 'St. Elsewhere')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def dicom(pixels):
    "An image with a patient in its header"
    import pydicom
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = pydicom.uid.DigitalXRayImageStorageForPresentation, pydicom.uid.generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.InstitutionName = PATIENT
    ds.BodyPartExamined = 'FOREARM'
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 'MONOCHROME2', 0, 8, 8, 7
    ds.PixelData = pixels.tobytes()
    out = io.BytesIO(); ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture(scope='module')
def drop(tmp_path_factory):
    "A folder with what people drop on a page"
    from skimage.data import astronaut
    from bonefrac.phantoms import phantom
    folder = tmp_path_factory.mktemp('drop')
    image = phantom('forearm', 'oblique', seed=7).pixels
    Image.fromarray(image).save(folder/'image.png')
    Image.fromarray(phantom('hand', seed=2).pixels).save(folder/'wrist of a child.jpg', quality=95)
    (folder/'1.2.840.99').write_bytes(dicom(image))
    damaged = dicom(image)
    (folder/'damaged.dcm').write_bytes(damaged[:-image.size // 2])
    (folder/'letter.png').write_text('Dear colleague')
    Image.fromarray(astronaut()).save(folder/'photo.jpg')
    return folder


@pytest.fixture(scope='module')
def twelve(tmp_path_factory):
    from bonefrac.phantoms import FRACTURE_TYPES, phantom
    folder = tmp_path_factory.mktemp('twelve')
    for i, kind in enumerate(['', '', *FRACTURE_TYPES]): Image.fromarray(phantom(fracture_type=kind, seed=i).pixels).save(folder/f'{i:02}.png')
    return folder


@pytest.fixture(scope='module')
def server(demo, tmp_path_factory):
    "The page, served by the real command; (address, folder of what it wrote to the temporary directory, its log, the reviewed run)"
    folder = tmp_path_factory.mktemp('app')
    scratch, run = folder/'scratch', folder/'run'
    scratch.mkdir(); run.mkdir()
    shutil.copy(demo/'findings.csv', run)
    port, log = free_port(), open(folder/'log', 'wb')
    process = subprocess.Popen([Path(sys.executable).with_name('bonefrac'), 'app', '--bundle', demo/'bundle', '--review', run, '--port', str(port)], cwd=folder, stdout=log, stderr=log,
                               env={**os.environ, 'TMPDIR': str(scratch), 'HOME': str(folder)})
    address = f'http://127.0.0.1:{port}'
    for _ in range(240):
        try: urllib.request.urlopen(f'{address}/_stcore/health', timeout=2); break
        except OSError: time.sleep(.25)
    yield address, scratch, folder/'log', run
    process.terminate(); process.wait(20); log.close()


@pytest.fixture(scope='module')
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def visit(server, browser):
    "Open the page as somebody new; what it asks of the network beyond this machine, and what it logs as an error, fails the test"
    complaints, people = [], []
    def opened(width=1280, height=900, at='', **how):
        person = browser.new_context(viewport=dict(width=width, height=height), accept_downloads=True, **how)
        people.append(person)
        page = person.new_page()
        page.set_default_timeout(60_000)
        page.on('request', lambda r: complaints.append(r.url) if not r.url.startswith((server[0], 'data:', 'blob:', server[0].replace('http', 'ws'))) else None)
        page.on('console', lambda m: complaints.append(m.text) if m.type == 'error' and '/_stcore/' not in m.location['url'] else None)   # Streamlit looks for its server under the page's own path first
        page.goto(f'{server[0]}/{at}')
        page.wait_for_selector('.stMainBlockContainer h1')
        return page
    yield opened
    for person in people: person.close()
    assert complaints == []


def dropped(page, *images):
    "Drop images, wait for the last answer"
    page.locator('input[type=file]').first.set_input_files([str(f) for f in images])
    page.wait_for_selector('text=Report as HTML')
    page.wait_for_selector('.stStatusWidget, [data-testid=stStatusWidget]', state='detached')


def downloaded(page, button):
    with page.expect_download() as waiting: page.get_by_role('button', name=button).click()
    return Path(waiting.value.path()).read_text(encoding='utf-8')


def shot(page, name):
    if folder := os.environ.get('BONEFRAC_SCREENSHOTS'): page.screenshot(path=f'{folder}/{name}.png')


def test_of_every_kind_of_file_the_page_says_what_the_command_says(visit, drop, demo, bonefrac, server):
    files = sorted(drop.iterdir())
    code, out, _ = bonefrac('predict', *[f.name for f in files], '--bundle', demo/'bundle', '--format', 'csv', cwd=drop)
    assert code == 2
    told = pd.read_csv(io.StringIO(out), keep_default_na=False).set_index('path')
    assert 'not an image' in told.refused['letter.png'] and 'in colour' in told.refused['photo.jpg'] and 'damaged' in told.refused['damaged.dcm'].replace('truncated', 'damaged')
    page = visit()
    dropped(page, *files)
    assert downloaded(page, 'Predictions as CSV') == out
    for at in range(0, len(files), 5):   # over the pages of images
        if at: page.locator('.stMain').get_by_role('button', name=re.compile(rf'(^|\D){at // 5 + 1}$')).first.click()
        for f in files[at:at + 5]:
            row = told.loc[f.name]
            page.locator('h3', has_text=f.name).first.wait_for()
            page.get_by_text(row.refused or f'Probability {float(row.probability):.3f}').last.wait_for()
            if f.name == '1.2.840.99': page.get_by_text('Region, according to the file: forearm.').first.wait_for()


def test_no_identifier_reaches_page_report_table_or_log(visit, drop, server):
    _, scratch, log, _ = server
    page = visit()
    dropped(page, drop/'1.2.840.99', drop/'damaged.dcm')
    page.wait_for_selector('.stage')
    everything = page.content() + downloaded(page, 'Predictions as CSV') + downloaded(page, 'Report as HTML') + log.read_text(errors='replace')
    assert not [p for p in PATIENT if p in everything or p.replace('^', ' ') in everything]
    assert [p for p in scratch.rglob('*') if p.is_file()] == []


def test_the_evidence_can_be_faded_switched_off_and_zoomed_by_key(visit, drop):
    page = visit()
    dropped(page, drop/'image.png')
    stage, evidence = page.locator('.stage').first, page.locator('img.evidence').first
    stage.wait_for()
    opacity = lambda: float(evidence.evaluate('e => getComputedStyle(e).opacity'))
    assert opacity() == .55 and evidence.evaluate('e => e.complete && e.naturalWidth > 0')
    fade = page.locator('.fade').first
    fade.focus(); page.keyboard.press('End')
    assert opacity() == 1
    page.locator('.show').first.uncheck()
    assert opacity() == 0
    page.locator('.show-boxes').first.uncheck()
    assert not page.locator('svg.boxes').first.is_visible()
    stage.focus()
    for _ in range(3): page.keyboard.press('+')
    assert float(stage.get_attribute('data-scale')) > 3
    page.keyboard.press('ArrowRight'); page.keyboard.press('0')
    assert float(stage.get_attribute('data-scale')) == 1
    assert 'Not a medical device' in page.locator('.bonefrac-notice').inner_text()


def test_twelve_images_at_once(visit, twelve, demo, bonefrac):
    files = sorted(twelve.iterdir())
    page = visit()
    dropped(page, *files)
    _, out, _ = bonefrac('predict', *[f.name for f in files], '--bundle', demo/'bundle', '--format', 'csv', cwd=twelve)
    assert downloaded(page, 'Predictions as CSV') == out
    report = downloaded(page, 'Report as HTML')
    answered = pd.read_csv(io.StringIO(out)); answered = answered[answered.refused.isna()]
    assert '12 images' in report and report.count('data:image/jpeg') == len(answered) + (answered.answer != 'no fracture').sum()   # evidence is drawn where there is some
    assert page.locator('.stage').count() == 5
    shot(page, 'twelve')


@pytest.mark.parametrize('width, height, scheme', [(1280, 900, 'light'), (390, 844, 'dark')])
def test_it_fits_desk_and_phone(visit, drop, width, height, scheme):
    page = visit(width, height, color_scheme=scheme)
    dropped(page, drop/'image.png')
    page.wait_for_selector('.stage')
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    image, notice = page.locator('.stage').first, page.locator('.bonefrac-notice')
    image.scroll_into_view_if_needed()
    assert image.bounding_box()['width'] > .6 * min(width, 700) and notice.bounding_box()['y'] + notice.bounding_box()['height'] <= height
    shot(page, f'predict-{width}')


def test_an_example_takes_one_click(visit):
    page = visit()
    page.get_by_role('button', name='Try drawn examples').click()
    page.wait_for_selector('.stage')
    assert 'These images are drawings' in page.locator('.stMain').inner_text()
    assert page.locator('.stage').count() == 3


def test_a_review_decision_is_saved_by_button_and_by_key(visit, server):
    run = server[3]
    page = visit(at='review')
    page.wait_for_selector('text=labelled')
    page.get_by_role('button', name='unclear').click()
    page.wait_for_selector('text=1 decided')
    page.locator('.stMain').click(position=dict(x=5, y=300))
    page.keyboard.press('x')
    page.wait_for_selector('text=2 decided')
    shot(page, 'review')
    assert page.locator('img[alt^="the image"]').evaluate('e => e.complete && e.naturalWidth > 0')
    decided = pd.read_csv(run/'decisions.csv')
    assert decided.decision.tolist() == ['unclear', 'exclude'] and decided.path.is_unique
    later = visit(at='review')
    later.wait_for_selector('text=2 decided')


def test_what_is_too_much_is_said(visit, twelve, tmp_path):
    page = visit()
    (tmp_path/'large.png').write_bytes(bytes(21 * 2**20))
    page.locator('input[type=file]').first.set_input_files(str(tmp_path/'large.png'))
    page.wait_for_selector('text=/20(\\.0)?\\s?MB or smaller|exceeds/')
    for i in range(51): shutil.copy(twelve/'00.png', tmp_path/f'{i}.png')
    other = visit()
    dropped(other, *sorted(tmp_path.glob('[0-9]*.png')))
    assert '51 files; the first 50 are classified' in other.locator('.stMain').inner_text()


def test_two_people_never_see_each_others_images(visit, drop):
    one, two = visit(), visit()
    dropped(one, drop/'image.png')
    dropped(two, drop/'wrist of a child.jpg')
    seen = [page.locator('.stMain').inner_text() for page in (one, two)]
    assert 'image.png' in seen[0] and 'wrist of a child' not in seen[0]
    assert 'wrist of a child.jpg' in seen[1] and 'image.png' not in seen[1]
    assert one.locator('img.image').get_attribute('src') != two.locator('img.image').get_attribute('src')
    assert visit().locator('.stage').count() == 0


def test_the_card_is_shown(visit):
    page = visit(at='about')
    page.wait_for_selector('text=Limits')
    assert 'must not decide about a patient' in page.locator('.stMain').inner_text()


def test_bad_options_get_one_line(bonefrac, tmp_path):
    for words in (('--bundle', 'nobody'), ('--review', tmp_path/'nowhere.csv')):
        code, out, err = bonefrac('app', *words)
        assert (code, out) == (2, '') and err.count('\n') == 1


def test_images_and_answers_are_there_when_a_visitor_comes_back(visit, drop):
    page = visit()
    dropped(page, drop/'image.png')
    page.wait_for_selector('.stage')
    page.get_by_role('link', name='About the model').click()
    page.wait_for_selector('text=Limits')
    page.get_by_role('link', name='Predict').click()
    page.wait_for_selector('.stage')
    assert 'image.png' in page.locator('.stMain').inner_text()
    page.get_by_role('button', name='Remove these images').click()
    page.get_by_role('button', name='Try drawn examples').wait_for()
    assert page.locator('.stage').count() == 0
