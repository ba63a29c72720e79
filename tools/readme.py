"Render README.md from nbs/index.ipynb and the modules in CONTRIBUTING.md from the notebooks; --check compares only."
import re
import sys
from pathlib import Path

import nbformat
import yaml
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1].resolve()
NO_INPUT = {'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': ['no-input']}}


def visible(c):
    "Is a cell part of the README?"
    return '#| hide' not in c.source and c.cell_type != 'raw'


def without_directives(c):
    "The cell without nbdev's directives"
    if '#| echo: false' in c.source:
        c.metadata['tags'] = ['no-input']
    c.source = '\n'.join(line for line in c.source.splitlines() if not line.startswith('#|'))
    return c


def from_root(match):
    "A link of the home page, as seen from the repository's root; links to links lead to the file itself"
    file = ROOT/'nbs'/match[1]
    if '://' in match[1] or not file.exists():
        return match[0]
    return f']({file.resolve().relative_to(ROOT).as_posix()})'


def render():
    "The visible cells of index.ipynb as Markdown"
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
    nb.cells = [without_directives(c) for c in nb.cells if visible(c)]
    nb.metadata['language_info'] = {'name': 'python'}
    text, _ = MarkdownExporter(config=NO_INPUT).from_notebook_node(nb)
    text = re.sub(r'\]\(([^)#]+)\)', from_root, text)
    text = re.sub(r'[ \t]+$', '', text, flags=re.M)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


def module_row(page):
    "A row for a notebook: its module and the line under its title"
    text = '\n'.join(c.source for c in nbformat.read(ROOT/'nbs'/page, as_version=4).cells[:4])
    module, purpose = re.search(r'default_exp (\w+)', text)[1], re.search('^> (.+)', text, flags=re.M)[1]
    return f'| [`{page.removesuffix(".ipynb")}`](nbs/{page}) | `{module}` | {purpose} |'


def contributing():
    "CONTRIBUTING.md with its table of modules in the order of the sidebar"
    sections = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    pages = next(part['contents'] for part in sections if isinstance(part, dict) and part['section'] == 'Reference')
    table = '\n'.join(['| notebook | module | purpose |', '|---|---|---|', *map(module_row, pages)]) + '\n'
    text = (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8')
    return re.sub(r'(?m)^\| notebook \|.*\n(?:\|.*\n)+', lambda found: table, text)


RENDERED = {'README.md': render, 'CONTRIBUTING.md': contributing}

if __name__ == '__main__':
    behind = []
    for name, made in RENDERED.items():
        if '--check' not in sys.argv:
            (ROOT/name).write_text(made(), encoding='utf-8')
        elif (ROOT/name).read_text(encoding='utf-8') != made():
            behind.append(name)
    if behind:
        sys.exit(f'{" and ".join(behind)}: not what the notebooks say; run python tools/readme.py')
