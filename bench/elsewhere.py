"""A model that was trained on one dataset: its AUROC on the radiographs of others that lie in none of its own, and beside
models that were trained on all, on images of its own dataset that neither has seen.

For the model that shipped before the present one, trained on FracAtlas alone:

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
from bonefrac.evaluation import LabelledPredictions, compare, compute_metrics, read_findings
from bonefrac.files import digest
from bonefrac.prediction import Predictor


def rounded(m): return {k: round(v, 3) if isinstance(v, float) else v for k, v in m.items()}


def of_other_sets(images, own):
    "One file of each radiograph that lies in other datasets and not in the model's own"
    other = images[(images.source != own.source.iloc[0]) & ~images.radiograph_id.isin(own.radiograph_id)]
    shortest_first = other.sort_values('path', key=lambda paths: paths.str.len())
    return shortest_first.drop_duplicates('radiograph_id').reset_index(drop=True)


def unseen_findings(folds, source, seen):
    "What models trained on all datasets predict of images of one, without those that the other model was trained on"
    findings = pd.concat([read_findings(p) for p in sorted(folds.glob('fold-*/eval/findings.csv'))])
    findings = findings[(findings.source == source) & (findings.refused == '')]
    return findings[[digest(p) not in seen for p in findings.path]].sort_values('path').reset_index(drop=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bundle', type=Path)
    parser.add_argument('images', type=Path, help='images.csv of an audit of the datasets together.')
    parser.add_argument('own', help='The dataset that the model was trained on.')
    parser.add_argument('folds', type=Path, help='A run of train --folds on all datasets, each fold evaluated into eval.')
    given = parser.parse_args()
    bundle, images = load_bundle(given.bundle), read_images_csv(given.images)
    predictor, images = Predictor(bundle, check_input=False), images[images.usable & (images.split != '')]
    own = images[images.source == given.own]
    other = of_other_sets(images, own)
    elsewhere = compute_metrics(LabelledPredictions(predictor.findings(other, quiet=True)), resamples=1000)['auroc']
    theirs = unseen_findings(given.folds, given.own, bundle.training_digests())
    ours = predictor.findings(theirs[own.columns.intersection(theirs.columns)], quiet=True)
    difference = compare(ours, theirs)['metrics']['auroc']
    save('elsewhere', bundle=bundle.name, command=bundle.config['training']['command'], images=len(other),
         fractured=int((other.label == 'fractured').sum()), auroc=rounded(elsewhere), own=given.own,
         unseen_by_both=len(theirs), difference=rounded(difference))


if __name__ == '__main__':
    main()
