"The service as a process of its own, asked over a socket"
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image


@contextmanager
def running(folder, *words, **env):
    "The real command; (address, process, path of its log)"
    log = folder/'log'
    with open(log, 'w') as out:
        process = subprocess.Popen([Path(sys.executable).with_name('bonefrac'), 'serve', '--port', '0', *map(str, words)], stderr=out, env={**os.environ, **env})
        while ' at http' not in log.read_text() and process.poll() is None: time.sleep(.05)
        address = 'http' + log.read_text().split(' at http')[1].split(',')[0]
        for _ in range(200):
            try: httpx.get(f'{address}/health'); break
            except httpx.TransportError: time.sleep(.05)
        try: yield address, process, log
        finally:
            if process.poll() is None: process.terminate()
            process.wait(30)


@pytest.fixture(scope='module')
def server(demo, tmp_path_factory):
    with running(tmp_path_factory.mktemp('service'), '--bundle', demo/'bundle') as r: yield r


def memory(pid):
    "Resident bytes"
    return int(next(line for line in Path(f'/proc/{pid}/status').read_text().splitlines() if line.startswith('VmRSS')).split()[1]) * 1024


def test_it_gives_the_records_that_the_command_gives(server, images, demo, bonefrac):
    code, out, _ = bonefrac('predict', *[f.name for f in images], '--bundle', demo/'bundle', '--format', 'json', cwd=images[0].parent)
    told = httpx.post(f'{server[0]}/predict', files=[('files', (f.name, f.read_bytes())) for f in images])
    assert told.status_code == 200
    for a, b in zip(told.json(), map(json.loads, out.splitlines()), strict=True):
        assert {k: v for k, v in a.items() if k not in ('probability', 'classes')} == {k: v for k, v in b.items() if k not in ('probability', 'classes')}
        assert a['probability'] == b['probability'] or abs(a['probability'] - b['probability']) < 1e-4   # the batch may differ, so the last digits


def malformed(image, i):
    "The i-th way to send something that is no image"
    rng = np.random.default_rng(i)
    noise = rng.bytes(int(rng.integers(1, 4000)))
    content = [noise, b'', image[:len(image) // 3], b'\x89PNG\r\n\x1a\n' + noise, bytes(128) + b'DICM' + noise, b'GIF89a' + noise, '{"image": 1}'.encode(), b'%PDF-1.7' + noise][i % 8]
    boundary = {'content-type': 'multipart/form-data; boundary=x'}
    if i % 10 == 8: return dict(content=noise, headers=boundary)
    if i % 10 == 9: return dict(content=b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + image[:100], headers=boundary)
    if i % 10 == 7: return dict(data={'files': 'no file'})
    return dict(files=[('files', (f'{i}.png', content))])


@pytest.mark.slow
def test_two_hundred_malformed_uploads_get_4xx_and_it_still_answers(server, images):
    address, process, _ = server
    image = images[0].read_bytes()
    statuses = [httpx.post(f'{address}/predict', timeout=30, **malformed(image, i)).status_code for i in range(200)]
    assert {s // 100 for s in statuses} == {4}, sorted(set(statuses))
    assert httpx.post(f'{address}/predict', files={'files': image}).status_code == 200 and process.poll() is None


def test_what_is_too_large_is_turned_away(server):
    huge = io.BytesIO(); Image.new('L', (12000, 9000)).save(huge, 'PNG')
    told = httpx.post(f'{server[0]}/predict', files={'files': huge.getvalue()}, timeout=30)
    assert told.status_code == 422 and '100 megapixels' in told.json()[0]['refused']
    for files, why in (([('files', bytes(21 * 2**20))], '20 MB'), ([('files', b'x')] * 51, 'at most 50')):
        told = httpx.post(f'{server[0]}/predict', files=files, timeout=30)
        assert told.status_code == 413 and why in told.json()['detail']


@pytest.mark.slow
def test_its_openapi_holds_against_schemathesis(server, tmp_path):
    command = [sys.executable, '-m', 'schemathesis.cli', 'run', f'{server[0]}/openapi.json', '--checks', 'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance',
               '--max-examples', '25', '--seed', '1', '--no-color', '--phases', 'examples,coverage,fuzzing']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


@pytest.mark.slow
def test_eight_clients_at_once_get_answers_and_memory_stays(server, images):
    address, process, _ = server
    bodies = [f.read_bytes() for f in images]
    def client(i, seconds):
        ends, answered = time.monotonic() + seconds, 0
        with httpx.Client(timeout=30) as c:
            while time.monotonic() < ends:
                r = c.post(f'{address}/predict', files={'files': bodies[(i + answered) % len(bodies)]})
                assert r.status_code == 200
                answered += 1
        return answered
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda i: client(i, 10), range(8)))   # until batches of every size have been seen
        before = memory(process.pid)
        assert sum(clients.map(lambda i: client(i, 8), range(8))) >= 8
    assert memory(process.pid) - before < 20 * 2**20


def test_a_request_under_way_is_answered_before_it_stops(demo, images, tmp_path):
    with running(tmp_path, '--bundle', demo/'bundle') as (address, process, log):
        many = [('files', (f'{i}.png', images[i % 6].read_bytes())) for i in range(50)]
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, f'{address}/predict', files=many, timeout=60)
            time.sleep(.3)
            process.send_signal(signal.SIGTERM)
            told = asked.result()
        assert told.status_code == 200 and len(told.json()) == 50
        process.wait(30)
        with pytest.raises(httpx.TransportError): httpx.get(f'{address}/health')
    assert 'Traceback' not in log.read_text()


def test_the_log_is_json_and_names_nobody(demo, images, tmp_path):
    from test_app import PATIENT, dicom
    image = dicom(np.asarray(Image.open(images[0])))
    with running(tmp_path, '--bundle', demo/'bundle', BONEFRAC_TOKEN='open sesame') as (address, _, log):
        send = lambda name, content, **h: httpx.post(f'{address}/predict', files={'files': (name, content)}, headers=h)
        assert send('DOE^JANE.dcm', image).status_code == 401
        allowed = dict(authorization='Bearer open sesame')
        answers = [send('DOE^JANE.dcm', content, **allowed) for content in (image, image[:-1000], b'DOE^JANE')]
        assert [a.status_code for a in answers] == [200, 422, 422]
        assert not [p for p in PATIENT[1:] if p in ''.join(a.text for a in answers)]
        httpx.get(f'{address}/DOE^JANE?name=DOE^JANE')
        said = log.read_text()
    lines = [json.loads(line) for line in said.splitlines()[1:]]
    assert [(l['route'], l['status']) for l in lines if l['event'] == 'request' and l['method'] == 'POST'] == [('other', 401), ('/predict', 200), ('/predict', 422), ('/predict', 422)]
    assert not [p for p in (*PATIENT, 'sesame', '127.0.0.1') if p in said.split('\n', 1)[1]]


def test_its_pages_need_no_network(server):
    page = httpx.get(f'{server[0]}/docs').text
    assert 'swagger-ui' in page and 'https://' not in page


def test_bad_options_get_one_line(bonefrac, server):
    port = server[0].rsplit(':', 1)[1]
    for words, why in ((('--bundle', 'nobody'), 'no bundle there'), (('--port', port), 'another --port')):
        code, out, err = bonefrac('serve', *words)
        assert (code, out) == (2, '') and why in err and err.count('\n') == 1
