"""A model that has learnt from one set: what it reaches on the radiographs of others that lie in none of its own, and beside nets that have learnt from all, on images of its own set that neither has seen.

The model that shipped before the present one, with FracAtlas alone behind it, is asked so:

    bonefrac audit fracatlas multiregion --out audit-both
    bonefrac train audit-both/images.csv --folds 5 ... --out fracture-folds
    git archive 2dd4207 bonefrac/bundles/fracture | tar x -C before
    python bench/elsewhere.py before/bonefrac/bundles/fracture audit-both/images.csv fracatlas fracture-folds
"""
import argparse
from pathlib import Path

import pandas as pd
from harness import save

from bonefrac.bundle import load_bundle
from bonefrac.datasets import read_images_csv
from bonefrac.evaluation import LabelledPredictions, compare, figures, read_findings
from bonefrac.prediction import Predictor
from bonefrac.files import digest


def rounded(m): return {k: round(v, 3) for k, v in m.items() if isinstance(v, float)}


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('bundle', type=Path)
parser.add_argument('images', type=Path, help='images.csv of an audit of the sets together.')
parser.add_argument('own', help='The set that the model has learnt from.')
parser.add_argument('folds', type=Path, help='A run of train --folds on all sets, each fold evaluated into eval.')
given = parser.parse_args()
bundle, images = load_bundle(given.bundle), read_images_csv(given.images)
ask, images = Predictor(bundle, check_input=False), images[images.usable & (images.split != '')]
own = images[images.source == given.own]
other = images[(images.source != given.own) & ~images.radiograph_id.isin(own.radiograph_id)]
other = other.sort_values('path', key=lambda paths: paths.str.len()).drop_duplicates('radiograph_id').reset_index(drop=True)
elsewhere = figures(LabelledPredictions(ask.findings(other, quiet=True)), resamples=1000)['auroc']
seen = bundle.training_digests()
theirs = pd.concat([read_findings(p) for p in sorted(given.folds.glob('fold-*/eval/findings.csv'))])
theirs = theirs[(theirs.source == given.own) & (theirs.refused == '')]
theirs = theirs[[digest(p) not in seen for p in theirs.path]].sort_values('path').reset_index(drop=True)
ours = ask.findings(theirs[own.columns.intersection(theirs.columns)], quiet=True)
save('elsewhere', bundle=bundle.name, command=bundle.config['training']['command'], images=len(other), fractured=int((other.label == 'fractured').sum()), auroc=rounded(elsewhere),
     own=given.own, unseen_by_both=len(theirs), difference={k: v if isinstance(v, str) else round(v, 3) for k, v in compare(ours, theirs)['metrics']['auroc'].items()})
