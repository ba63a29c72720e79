import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault('OMP_NUM_THREADS', '1')   # tests run side by side, a core each; threads that wait for one another spin


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
            code, _, err = bonefrac('demo', '--films', 150, '--epochs', 1, '--out', out, '--quiet')
            assert code == 0, err
    return out


@pytest.fixture(scope='session')
def films(tmp_path_factory):
    "Six phantoms of several kinds, as PNG"
    from PIL import Image
    from bonefrac.phantoms import FRACTURE_TYPES, phantom
    folder = tmp_path_factory.mktemp('films')
    for i, kind in enumerate(['', '', '', *list(FRACTURE_TYPES)[:3]]): Image.fromarray(phantom(fracture_type=kind, seed=i).pixels).save(folder/f'film{i}.png')
    return sorted(folder.glob('*.png'))
