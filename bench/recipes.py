"""What each recipe gave on the same test films: one line a run, from what the runs themselves left.

    bonefrac train audit-fracatlas/films.csv --epochs 5 --size 224 --out plain
    bonefrac evaluate plain/bundle audit-fracatlas/films.csv --out plain/eval
    ...
    python bench/recipes.py plain boxed ...
"""
import argparse
import json
from pathlib import Path

from harness import save

from bonefrac.bundle import load_bundle

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('runs', type=Path, nargs='+')
rows = []
for run in parser.parse_args().runs:
    training, metrics = load_bundle(run/'bundle').config['training'], json.loads((run/'eval'/'metrics.json').read_text())
    area = metrics['metrics']['auroc']
    rows.append(dict(run=run.name, command=training['command'], minutes=training['minutes'], films=metrics['n'], decided=round(metrics['three_way']['decided'], 3), **{k: round(area[k], 3) for k in ('value', 'low', 'high')}))
save('recipes', runs=rows)
