"Do names, help and pages speak the field's language, and do lines stay short?"
import subprocess
import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT/'tools'))
import style


def test_no_page_speaks_our_old_dialect(): assert style.words_of_pages() == {}


def test_no_public_name_or_docstring_does(): assert style.words_of_names() == {}


def test_no_help_text_does(): assert style.words_of_help() == {}


def test_a_forbidden_word_is_found():
    found = style.forbidden_in('The gate refused 3 % of films and of networks')
    assert {word for word, _ in found} == {'films', 'gate', '3 %'}
    assert style.without_code('a `film` and\n```\nnets\n```\n[text](films.html)') == 'a   and\n \n[text '


def test_ruff():
    done = subprocess.run([sys.executable, '-m', 'ruff', 'check', 'bonefrac', 'tools', 'tests', '--output-format', 'concise'],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_lines_of_the_notebooks_are_short():
    long = {path.stem: [line for line in style.measured(path)['lines'] if len(line) > 110] for path in (ROOT/'nbs').glob('[0-9]*.ipynb')}
    assert {name: lines for name, lines in long.items() if lines} == {}
