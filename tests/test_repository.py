"Is what is committed in step with the notebooks, and free of what must not be in it?"
import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*args, cwd=ROOT): return subprocess.run(args, cwd=cwd, capture_output=True, text=True)


def tracked(): return [f for f in run('git', 'ls-files', '--cached', '--others', '--exclude-standard').stdout.splitlines() if (ROOT/f).is_file()]


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The repository's files in another folder, where nbdev may write"
    to = tmp_path_factory.mktemp('repository')
    for f in tracked():
        (to/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/f, to/f, follow_symlinks=False)
    return to


def differing(copy, folder, pattern): return [f.name for f in sorted((copy/folder).rglob(pattern)) if f.read_bytes() != (ROOT/f.relative_to(copy)).read_bytes()]


def test_export_is_in_step(copy):
    done = run(sys.executable, '-c', 'from nbdev.export import nb_export; import nbdev; nbdev.nbdev_export()', cwd=copy)
    assert done.returncode == 0, done.stderr
    assert differing(copy, 'bonefrac', '*.py') == [], 'run nbdev-export'


def test_notebooks_are_clean(copy):
    done = run(sys.executable, '-c', 'from nbdev.clean import nbdev_clean; nbdev_clean()', cwd=copy)
    assert done.returncode == 0, done.stderr
    assert differing(copy, 'nbs', '*.ipynb') == [], 'run nbdev-clean'


def test_readme_is_in_step():
    done = run(sys.executable, 'tools/readme.py', '--check')
    assert done.returncode == 0, done.stderr


def test_readme_is_short_and_its_links_lead_to_files():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    assert len(text.split()) < 900
    targets = [to for to in re.findall(r'\]\(([^)#]+)', text) if '://' not in to]
    assert len(targets) > 15 and [to for to in targets if not (ROOT/to).is_file() or (ROOT/to).is_symlink()] == []


def test_contributing_lists_every_module():
    modules = {p.name for p in (ROOT/'nbs').glob('[0-9]*.ipynb')}
    listed = set(re.findall(r'\]\(nbs/(\w+\.ipynb)\)', (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8')))
    assert listed == modules, 'add it to _quarto.yml, then run python tools/readme.py'


@pytest.mark.parametrize('notebook', sorted(p.relative_to(ROOT).as_posix() for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts))
def test_notebook_was_run_and_asserts(notebook):
    nb = json.loads((ROOT/notebook).read_text(encoding='utf-8'))
    code = [c for c in nb['cells'] if c['cell_type'] == 'code']
    assert not [o for c in code for o in c['outputs'] if o['output_type'] == 'error']
    source = '\n'.join(''.join(c['source']) for c in code)
    if '#| export' in source: assert 'test_eq' in source or 'assert ' in source
    assert (ROOT/notebook).stat().st_size < 1_500_000
    assert 'site-packages' not in (ROOT/notebook).read_text(encoding='utf-8'), 'a stored warning with a path of one machine'


def test_nothing_that_unpickles():
    assert [f for f in tracked() if Path(f).suffix in {'.pkl', '.pth', '.pt', '.pickle', '.joblib'}] == []


def test_settings_are_the_one_place():
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini')
    assert 'dependencies' not in (ROOT/'pyproject.toml').read_text().replace('"dependencies", "optional-dependencies"', '')
    assert settings['DEFAULT']['console_scripts'].split() == ['bonefrac=bonefrac.cli:main']


def test_container_files_name_what_is_there(bonefrac):
    import yaml
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini')
    docker, compose = (ROOT/'Dockerfile').read_text(), yaml.safe_load((ROOT/'compose.yaml').read_text())
    assert all(f'{extra}_requirements' in settings['DEFAULT'] for extra in re.search(r'\.\[(.+?)\]', docker)[1].split(','))
    commands = [json.loads(re.search(r'^CMD (\[.+\])', docker, re.M)[1]), compose['services']['page']['command']]
    for command, *options in commands:
        code, out, _ = bonefrac(command, '--help')
        assert code == 0 and all(o in out for o in options if o.startswith('--'))
    assert all('127.0.0.1:' in port for s in compose['services'].values() for port in s['ports'])
