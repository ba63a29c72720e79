"What a user gets: the wheel in an empty environment, without torch"
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp('dist')
    done = subprocess.run([sys.executable, '-m', 'build', '--installer', 'uv', '--wheel', '--outdir', str(out), str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob('*.whl'))


@pytest.fixture(scope='module')
def empty(wheel, tmp_path_factory):
    "An environment that holds the wheel and what it needs, nothing else"
    home = tmp_path_factory.mktemp('empty')/'env'
    venv.create(home, with_pip=False)
    done = subprocess.run([Path(sys.executable).with_name('uv'), 'pip', 'install', '-q', '--python', home/'bin'/'python', str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home/'bin'


def test_wheel_holds_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert 'bonefrac/cli.py' in names and not [n for n in names if n.startswith(('tests/', 'nbs/', 'tools/', 'bench/'))]
    metadata = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith('METADATA'))).decode()
    assert 'Provides-Extra: train' in metadata and 'Requires-Dist: onnxruntime' in metadata and '\nRequires-Dist: torch>=2.6\n' not in metadata


def run(empty, cache, *args):
    env = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')} | {'BONEFRAC_CACHE': str(cache)}
    done = subprocess.run([empty/'bonefrac', *map(str, args)], capture_output=True, text=True, cwd='/', env=env)
    return done.returncode, done.stdout, done.stderr


def test_predicts_without_torch(empty, cache, demo, films, bonefrac):
    assert subprocess.run([empty/'python', '-c', 'import torch'], capture_output=True).returncode != 0
    code, out, err = run(empty, cache, 'predict', *films, '--bundle', demo/'bundle', '--format', 'json')
    assert code == 0, err
    ours = [json.loads(line) for line in bonefrac('predict', *films, '--bundle', demo/'bundle', '--format', 'json')[1].splitlines()]
    for a, b in zip(map(json.loads, out.splitlines()), ours): assert a['answer'] == b['answer'] and abs(a['probability'] - b['probability']) < 1e-4


def test_evaluates_without_torch(empty, cache, demo, tmp_path):
    code, out, err = run(empty, cache, 'evaluate', demo/'bundle', demo/'films.csv', '--out', tmp_path/'eval', '--quiet')
    assert code == 0 and 'area under the ROC curve' in out, err
    assert (tmp_path/'eval'/'report.html').exists()


def test_training_says_what_to_install(empty, cache, tmp_path):
    code, out, err = run(empty, cache, 'train', 'phantoms:60', '--out', tmp_path/'run')
    assert code == 2 and "pip install 'bonefrac[train]'" in err and 'Traceback' not in err
