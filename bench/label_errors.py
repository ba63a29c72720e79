"""How many planted label errors stand at the top of the worklist?

Of 1,000 phantoms 20 get the wrong label. A net is trained in folds, so that every film is answered by one that never
saw it, and the worklist ranks them.

    python bench/label_errors.py [--films 1000] [--errors 20]
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from harness import save

from bonefrac.datasets import FRACTURED, NOT_FRACTURED
from bonefrac.evaluation import Answers, figures
from bonefrac.phantoms import phantom_films
from bonefrac.review import worklist

RECIPE = ('--arch', 'mobilenetv2_100', '--size', '160', '--epochs', '6', '--lr', '0.002', '--folds', '4')

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--films', type=int, default=1000)
parser.add_argument('--errors', type=int, default=20)
args = parser.parse_args()
with tempfile.TemporaryDirectory() as folder:
    films, _ = phantom_films(args.films, f'{folder}/films')
    wrong = films.sample(args.errors, random_state=0).index
    truth = films.set_index('path').label
    films.loc[wrong, 'label'] = films.label[wrong].map({FRACTURED: NOT_FRACTURED, NOT_FRACTURED: FRACTURED})
    films.assign(split='').to_csv(f'{folder}/films.csv', index=False)
    subprocess.run([Path(sys.executable).with_name('bonefrac'), 'train', f'{folder}/films.csv', *RECIPE, '--out', f'{folder}/run'], check=True)
    findings = pd.read_csv(f'{folder}/run/findings.csv', keep_default_na=False)
    work, planted = worklist(findings), set(films.path[wrong])
    area = figures(Answers(findings.assign(label=findings.path.map(truth))), resamples=200)['auroc']
    save('label_errors', films=len(findings), planted=args.errors, recipe=' '.join(RECIPE), auroc_on_true_labels={k: round(area[k], 3) for k in ('value', 'low', 'high')},
         found_in_first={n: len(planted & set(work.path[:n])) for n in (20, 40, 80)}, flagged=int(work.label_error.sum()), flagged_rightly=len(planted & set(work.path[work.label_error])))
