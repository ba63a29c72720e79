"A bundle travels to a hub and back: the real client against a hub that this test serves"
import base64
import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = 'a' * 40


class Hub(BaseHTTPRequestHandler):
    "The part of the Hub's HTTP interface that one repository needs"
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args): pass

    def reply(self, body, code=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {'Content-Length': str(len(body)), **headers}.items(): self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def do_POST(self):
        sent = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if self.path.endswith('/repos/create'): return self.reply({'url': f"http://{self.headers['Host']}/me/example", 'name': 'me/example'})
        if self.path.endswith('/validate-yaml'):
            self.server.cards.append(json.loads(sent)['content'])
            return self.reply({'errors': [], 'warnings': []})
        if '/preupload/' in self.path: return self.reply({'files': [{'path': f['path'], 'uploadMode': 'regular', 'shouldIgnore': False, 'oid': None} for f in json.loads(sent)['files']]})
        if '/commit/' not in self.path: return self.reply({'error': 'unknown'}, 404)
        for line in map(json.loads, sent.splitlines()):
            if line['key'] == 'file': self.server.files[line['value']['path']] = base64.b64decode(line['value']['content'])
        self.reply({'success': True, 'commitOid': COMMIT, 'commitUrl': f"http://{self.headers['Host']}/me/example/commit/{COMMIT}", 'hookOutput': ''})

    def do_GET(self):
        files, wanted = self.server.files, re.search(r'/me/example/resolve/[^/]+/([^?]+)', self.path)
        if wanted and wanted[1] in files: return self.reply(files[wanted[1]], ETag=f'"{hashlib.sha1(files[wanted[1]]).hexdigest()}"', X_Repo_Commit=COMMIT)
        if '/me/example/revision/' in self.path: return self.reply({'id': 'me/example', 'sha': COMMIT, 'siblings': [{'rfilename': f} for f in files]})
        if '/me/example/tree/' in self.path: return self.reply([{'type': 'file', 'path': f, 'size': len(b), 'oid': hashlib.sha1(b).hexdigest()} for f, b in files.items()])
        self.reply({'error': 'not found'}, 404, X_Error_Code='RepoNotFound')

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path):
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.files, server.cards = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.env = dict(HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}', HF_HOME=str(tmp_path/'hf'), HF_TOKEN='hf_nobody', HF_HUB_DISABLE_TELEMETRY='1')
    yield server
    server.shutdown()
    server.server_close()


def test_there_and_back(bonefrac, demo, images, hub, tmp_path):
    mine = shutil.copytree(demo/'bundle', tmp_path/'mine')
    (mine/'notes.txt').write_text('nobody else reads this')
    code, out, err = bonefrac('push', mine, 'me/example', env=hub.env)
    assert code == 0 and out.strip().endswith(f'/me/example/commit/{COMMIT}'), err
    assert set(hub.files) == {p.name for p in (demo/'bundle').iterdir()}   # the notes stay
    assert hub.cards and 'library_name: "bonefrac"' in hub.cards[0]

    hub.files |= {'extra.pkl': b'pickle', 'code.py': b'print()'}   # other files in the repository stay there
    code, out, err = bonefrac('pull', 'me/example', '--out', tmp_path/'pulled', env=hub.env)
    assert code == 0, err
    assert {p.name: p.read_bytes() for p in (tmp_path/'pulled').iterdir()} == {p.name: p.read_bytes() for p in (demo/'bundle').iterdir()}

    predict = lambda bundle: bonefrac('predict', images[0], '--bundle', bundle, '--format', 'json', env=hub.env)[1]
    assert predict('hf:me/example') == predict(demo/'bundle') != ''


def test_a_bundle_that_was_changed_on_the_way_is_rejected(bonefrac, demo, hub, tmp_path):
    bonefrac('push', demo/'bundle', 'me/example', env=hub.env)
    hub.files['model.onnx'] = hub.files['model.onnx'][:-1] + b'!'
    code, out, err = bonefrac('pull', 'me/example', '--out', tmp_path/'pulled', env=hub.env)
    assert code == 2 and 'SHA-256 differs' in err.splitlines()[-1] and 'Traceback' not in err and not (tmp_path/'pulled').exists()


def test_an_unknown_repository_gets_one_line(bonefrac, hub, tmp_path):
    code, out, err = bonefrac('pull', 'me/nothing', '--out', tmp_path/'pulled', env=hub.env)
    assert code == 2 and err.splitlines()[-1].startswith('bonefrac: hf:me/nothing: ') and 'Traceback' not in err and not (tmp_path/'pulled').exists()
