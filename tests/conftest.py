import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault('OMP_NUM_THREADS', '1')   # tests run side by side, a core each; threads that wait for one another spin


ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


def pytest_collection_modifyitems(items):
    "The file that takes longest first, so that it is not the one that is waited for"
    items.sort(key=lambda item: item.path.name != 'test_tutorials.py')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def jupyterlab(bin, folder, **env):
    "A JupyterLab server of an environment, on the files of a folder; its address"
    address = f'http://127.0.0.1:{(port := free_port())}'
    env = {**os.environ, 'HOME': str(folder), 'JUPYTER_CONFIG_DIR': str(folder/'config'), **env}
    server = subprocess.Popen([bin/'jupyter', 'lab', '--no-browser', f'--port={port}', '--IdentityProvider.token=', '--ServerApp.disable_check_xsrf=True', '--allow-root', f'--ServerApp.root_dir={folder}'],
                              cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(480):
            try: urllib.request.urlopen(f'{address}/api', timeout=2); break
            except OSError: time.sleep(.25)
        yield address
    finally: server.terminate(); server.wait(20)


@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    "The package as it is published"
    out = tmp_path_factory.mktemp('dist')
    done = subprocess.run([sys.executable, '-m', 'build', '--installer', 'uv', '--wheel', '--outdir', str(out), str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob('*.whl'))


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    "A cache of the tests' own, so that nothing depends on what a machine has seen before"
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='session')
def bonefrac(cache):
    "Run the installed command in a process of its own: (exit code, standard output, standard error)"
    def run(*args, cwd=None, stdin=None, timeout=300, env={}):
        env = {**os.environ, 'BONEFRAC_CACHE': str(cache), 'PYTHONWARNINGS': 'ignore', **env}
        done = subprocess.run([Path(sys.executable).with_name('bonefrac'), *map(str, args)], cwd=cwd, input=stdin, env=env, capture_output=True, text=True, timeout=timeout)
        return done.returncode, done.stdout, done.stderr
    return run


@pytest.fixture(scope='session')
def demo(bonefrac, tmp_path_factory, worker_id):
    "A small run of the demo, which the processes that test side by side share; its folder"
    out = (tmp_path_factory.getbasetemp() if worker_id == 'master' else tmp_path_factory.getbasetemp().parent)/'demo'
    with FileLock(f'{out}.lock'):
        if not (out/'report.html').exists():
            code, _, err = bonefrac('demo', '--images', 150, '--epochs', 1, '--out', out, '--quiet')
            assert code == 0, err
    return out


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    "Six phantoms of several kinds, as PNG"
    from PIL import Image
    from bonefrac.phantoms import FRACTURE_TYPES, phantom
    folder = tmp_path_factory.mktemp('images')
    for i, kind in enumerate(['', '', '', *list(FRACTURE_TYPES)[:3]]): Image.fromarray(phantom(fracture_type=kind, seed=i).pixels).save(folder/f'image{i}.png')
    return sorted(folder.glob('*.png'))
