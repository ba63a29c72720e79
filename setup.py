"Hands setuptools what settings.ini says; everything else stands in pyproject.toml"
from configparser import ConfigParser
from pathlib import Path
import re

from setuptools import setup

settings = ConfigParser(delimiters=['='])
settings.read(Path(__file__).with_name('settings.ini'), encoding='utf-8')
cfg = settings['DEFAULT']
extras = {k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')}
version = re.search(r'__version__ = "(.+?)"', Path(__file__).with_name('bonefrac').joinpath('__init__.py').read_text())[1]

setup(
    version=version,
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require=extras | {'all': [f'bonefrac[{",".join(extras)}]']},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': ['bonefrac = bonefrac._modidx:d']},
)
