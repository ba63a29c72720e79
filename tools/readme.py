"Render nbs/index.ipynb as README.md, or with --check say whether it is in step. Works without Quarto."
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]


def render():
    "The visible cells of index.ipynb as Markdown, without directives; pictures from where they lie"
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if '#| hide' not in c.source and c.cell_type != 'raw']
    for c in nb.cells:
        if '#| echo: false' in c.source: c.metadata['tags'] = ['no-input']
        c.source = '\n'.join(line for line in c.source.splitlines() if not line.startswith('#|'))
    nb.metadata['language_info'] = {'name': 'python'}
    text, _ = MarkdownExporter(config={'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': ['no-input']}}).from_notebook_node(nb)
    lines = [line.rstrip() for line in re.sub(r'\]\((images/|(?:\w+/)?\w+\.ipynb\))', r'](nbs/\1', text).splitlines()]
    return '\n'.join(line for i, line in enumerate(lines) if line or (i and lines[i - 1])).strip() + '\n'


if __name__ == '__main__':
    readme = ROOT/'README.md'
    if '--check' in sys.argv: sys.exit(0 if readme.read_text(encoding='utf-8') == render() else 'README.md is not what nbs/index.ipynb says; run make notebooks')
    readme.write_text(render(), encoding='utf-8')
