"""The site where there is no Quarto: Sphinx and MyST-NB on the notebooks as nbdev processes them. `make docs` calls it.

The sidebar is _quarto.yml's; every text is a notebook's. What is below turns Quarto's way of writing into MyST's.
"""
import functools
import html
import importlib.util
import io
import json
import re
import shutil
from pathlib import Path

import yaml
from docutils.nodes import SkipNode, make_id
from matplotlib.mathtext import math_to_image
from nbdev.config import get_config
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parents[1]
QUARTO = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))['website']
REPOSITORY = get_config(ROOT).git_url   # [project.urls] Repository in pyproject.toml

project, html_title, html_theme = QUARTO['title'], QUARTO['title'], 'furo'
extensions = ['myst_nb'] + ['sphinx_copybutton'] * bool(importlib.util.find_spec('sphinx_copybutton'))
html_static_path, html_css_files = [str(ROOT/'nbs'/'styles.css')], ['styles.css']
html_show_sourcelink = html_copy_source = html_show_copyright = False
html_favicon = str(ROOT/'nbs'/QUARTO['favicon'])
html_math_renderer = 'svg'
html_theme_options = {}
if REPOSITORY:
    html_theme_options = dict(source_repository=REPOSITORY, source_branch='main', source_directory='nbs/')
exclude_patterns = ['_docs', 'jupyter_execute']
nb_execution_mode, nb_render_markdown_format = 'off', 'myst'
myst_enable_extensions, myst_heading_anchors = ['attrs_inline', 'colon_fence', 'dollarmath'], 4
myst_heading_slug_func = 'docutils.nodes.make_id'
suppress_warnings = ['mystnb.unknown_mime_type', 'myst.header']   # nbdev gives functions H3, also where no H2 comes before


def sections(contents=QUARTO['sidebar']['contents'], name=''):
    "{section: its pages} in the order of the sidebar"
    found = {name: [Path(page).with_suffix('').as_posix() for page in contents if isinstance(page, str)]}
    for part in contents:
        if isinstance(part, dict):
            found |= sections(part['contents'], part['section'])
    return found


PAGES = [page for pages in sections().values() for page in pages]
MODULES = {re.sub(r'^\d+[a-z]*_', '', page): page for page in PAGES if '/' not in page}
DESCRIPTIONS = {}   # {page: its line for search engines}


def linked_once(text):
    "nbdev links a name in backticks even where it is the text of a link already: keep the author's link"
    inner = r'\[(`[^`\n]+`)\]\([^)\n]*\)'
    outer = rf'\[((?:[^\[\]`\n]*{inner})+[^\[\]\n]*)\]\('
    return re.sub(outer, lambda m: f'[{re.sub(inner, lambda name: name[1], m[1])}](', text)


@functools.cache
def anchors(page):
    "The ids of a processed notebook's headings"
    text = (ROOT/'_proc'/f'{page}.ipynb').read_text(encoding='utf-8')
    return {make_id(heading) for heading in re.findall(r'"#+ (.+?)(?:\\n|"|\{#)', text)}


def to_module(match, up):
    "A link to a module's page of nbdev, as one to its notebook, at the symbol where it has a heading of its own"
    module, symbol = match[1], make_id(match[2] or '')
    if module not in MODULES:
        return match[0]
    page = MODULES[module]
    return f']({up}{page}.ipynb{"#" + symbol if symbol in anchors(page) else ""})'


def plain(text, page):
    "Quarto's callouts, nbdev's links to modules and to lines of source, as MyST has them"
    up = '../' * page.count('/')
    text = re.sub(r'::: *\{\.callout-(\w+)\}\n(.*?)\n:::', r':::{\1}\n\2\n:::', linked_once(text), flags=re.S)
    text = re.sub(r'\]\((?:\.\./)*/?(\w+)\.html(?:#([\w.]+))?\)', lambda m: to_module(m, up), text)
    source = rf'<a class="source" href="{up}source/\1.html#line-\2">source</a>'
    return re.sub(r'\[source\]\(/blob/\w+/(bonefrac/\w+)\.py#L(\d+)\)', source, text)


def joined(source):
    return source if isinstance(source, str) else ''.join(source)


def markdown(source):
    return dict(cell_type='markdown', metadata={}, source=source)


HIDDEN = {'echo: false': 'remove-input', 'output: false': 'remove-output', 'code-fold: true': 'hide-input'}


def title(source, page):
    "The front matter that nbdev makes of H1 and `>` line, as a heading with the notebook's links"
    front = yaml.safe_load(source.strip().strip('-'))
    description = front.get('description', '')
    DESCRIPTIONS[page] = re.sub(r'\[([^\]]*)\]\([^)]*\)|[`*]', r'\1', description)
    return markdown(f"# {front['title']}\n\n{links(page)}\n\n*{description}*")


def shown(output, page):
    "An output in one format: HTML where it has it"
    data = output.get('data', {})
    if 'text/html' in data:
        return output | dict(data={'text/html': data['text/html']})
    if 'text/markdown' in data:
        return output | dict(data={'text/markdown': plain(joined(data['text/markdown']), page)})
    return output


def cell(c, page):
    "One cell, for MyST-NB"
    source = joined(c['source'])
    if c['cell_type'] == 'raw':
        return title(source, page)
    if c['cell_type'] == 'markdown':
        return markdown(plain(source, page))
    if '#| output: asis' in source:
        return markdown('\n\n'.join(plain(joined(o['data']['text/markdown']), page) for o in c['outputs']))
    tags = [tag for option, tag in HIDDEN.items() if f'#| {option}' in source]
    code = '\n'.join(line for line in source.splitlines() if not line.startswith('#|'))
    outputs = [shown(output, page) for output in c['outputs']]
    return dict(cell_type='code', metadata={'tags': tags}, execution_count=c.get('execution_count'),
                outputs=outputs, source=code)


def links(page):
    "Where the notebook is to be had"
    up = '../' * page.count('/')
    notebook = f'<a class="source" download href="{up}notebooks/{page}.ipynb">Notebook</a>'
    colab = re.sub(r'^https://github\.com', 'https://colab.research.google.com/github', REPOSITORY)
    if colab == REPOSITORY:
        return notebook
    return f'{notebook} <a class="source" href="{colab}/blob/main/nbs/{page}.ipynb">Open in Colab</a>'


def toctrees():
    "The sidebar"
    parts = sections()
    single = [page for page in parts.pop('') if page != 'index']
    trees = ['```{toctree}\n:hidden:\n\nHome <self>\n```']
    for name, pages in (parts | {'More': single}).items():
        trees.append('\n'.join(['```{toctree}', ':hidden:', f':caption: {name}', '', *pages, '```']))
    return '\n\n'.join(trees)


LANGUAGE = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'),
                language_info=dict(name='python', pygments_lexer='python3'))


def is_shown(c):
    source = joined(c['source'])
    return 'AUTOGENERATED' not in source and '#| include: false' not in source


def adapt(app, page, source):
    "Sphinx hands over a page as nbdev left it"
    if not source[0].lstrip().startswith('{'):
        return
    cells = [cell(c, page) for c in json.loads(source[0])['cells'] if is_shown(c)]
    if page == 'index':
        cells.append(markdown(toctrees()))
    cells = [dict(c, id=f'cell-{i}') for i, c in enumerate(cells)]
    source[0] = json.dumps(dict(cells=cells, nbformat=4, nbformat_minor=5, metadata=LANGUAGE))


def describe(app, page, template, context, doctree):
    "The line that search engines show"
    text = html.escape(DESCRIPTIONS.get(page) or QUARTO['description'])
    context['metatags'] = context.get('metatags', '') + f'<meta name="description" content="{text}">'


def formula(translator, node):
    "A formula as an SVG of the page's colour; MathJax would be loaded from another server"
    drawn = io.StringIO()
    depth = math_to_image(f'${node.astext()}$', drawn, format='svg', dpi=72)
    svg = re.sub('<metadata>.*?</metadata>', '', drawn.getvalue(), flags=re.S)
    svg = svg[svg.index('<svg'):].replace('<svg', f'<svg style="vertical-align: -{depth:.1f}pt"', 1)
    label = html.escape(node.astext())
    translator.body.append(f'<span class="formula" role="img" aria-label="{label}">{svg}</span>')
    raise SkipNode


def sources(app, error):
    "The notebooks to take along, and the modules to read, line by line"
    for page in PAGES:
        notebook, to = ROOT/'nbs'/f'{page}.ipynb', Path(app.outdir)/'notebooks'/f'{page}.ipynb'
        if notebook.is_file():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(notebook, to)
    to = Path(app.outdir)/'source'/'bonefrac'
    to.mkdir(parents=True, exist_ok=True)
    for module in (ROOT/'bonefrac').glob('*.py'):
        style = HtmlFormatter(full=True, title=f'bonefrac/{module.name}', linenos='inline', anchorlinenos=True,
                              lineanchors='line')
        code = highlight(module.read_text(encoding='utf-8'), PythonLexer(), style)
        (to/f'{module.stem}.html').write_text(code, encoding='utf-8')


def setup(app):
    app.add_html_math_renderer('svg', (formula, None), (formula, None))
    app.connect('source-read', adapt)
    app.connect('html-page-context', describe)
    app.connect('build-finished', sources)
