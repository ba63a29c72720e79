"""What cross-validated runs reach on the images that each fold held out: pooled over the finished folds, with intervals, and
fold by fold. Where images were refused, the metrics that hold the refusals against the model stand beside the others.

    bonefrac audit fracatlas multiregion --out audit-both
    bonefrac train audit-both/images.csv --folds 5 ... --out fracture-folds
    python bench/folds.py fracture-folds
"""
import argparse
import json
from pathlib import Path

import pandas as pd
from harness import save

from bonefrac.bundle import load_bundle
from bonefrac.datasets import read_dataset, read_images_csv
from bonefrac.evaluation import LabelledPredictions, compute_metrics, evaluate, read_findings, wilson_interval
from bonefrac.localization import evaluate_localization
from bonefrac.prediction import Predictor

TEXT = 'label', 'region', 'group', 'refused', 'issue'
SHOWN = ('auroc', 'average_precision', 'accuracy', 'balanced_accuracy', 'top2', 'f1', 'kappa', 'ece')


def rounded(o):
    if isinstance(o, dict):
        return {k: rounded(v) for k, v in o.items()}
    return round(o, 4) if isinstance(o, float) else o


def held_out(run, bundles):
    "findings.csv, which exists once all folds are done; before, the findings of the finished ones"
    path = run/'findings.csv'
    if not path.exists():
        return pd.concat(map(findings_of, bundles), ignore_index=True)
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str)).fillna(dict.fromkeys(TEXT, ''))


def findings_of(bundle):
    "Findings of the images that a fold held out: those that `bonefrac evaluate` left in eval beside the bundle, or new ones"
    fold = bundle.folder.parent
    metrics = fold/'eval'/'metrics.json'
    if metrics.exists() and json.loads(metrics.read_text())['model'] == bundle.config['files']['model.onnx']:
        return read_findings(fold/'eval'/'findings.csv')
    images = read_images_csv(fold/'images.csv')
    return Predictor(bundle).findings(images[images.usable & (images.split == 'test')])


def share(mask):
    low, high = wilson_interval(mask.mean(), len(mask))
    return dict(value=float(mask.mean()), low=low, high=high, n=len(mask))


def three_answers(findings):
    "What each fold's own operating points made of the images that it held out"
    answered = findings[findings.refused == '']
    broken, decided = answered.label == 'fractured', answered.answer != 'doubt'
    yes, no = answered.answer == 'fracture', answered.answer == 'no fracture'
    return dict(decided=share(decided), sensitivity_of_decided=share(yes[broken & decided]),
                specificity_of_decided=share(no[~broken & decided]),
                not_ruled_out=share(~no[broken]), not_ruled_in=share(~yes[~broken]))


def three_answers_with_refusals(findings):
    "The same over all labelled images: a refused one is not decided, not found where fractured, not cleared where not"
    broken, refused = findings.label == 'fractured', findings.refused != ''
    yes, no = findings.answer == 'fracture', findings.answer == 'no fracture'
    decided = yes | no
    return dict(decided=share(decided), sensitivity_of_decided=share(yes[broken & (decided | refused)]),
                specificity_of_decided=share(no[~broken & (decided | refused)]),
                not_ruled_out=share((~no & ~refused)[broken]), not_ruled_in=share((~yes & ~refused)[~broken]))


def limits(metrics, names): return {m: {k: metrics[m][k] for k in ('value', 'low', 'high')} for m in names}


def refusals(evaluation):
    "How many were refused, and what the metrics are with these held against the model"
    counts = {k: evaluation[k] for k in ('coverage', 'n_refused', 'n_rejected', 'n_unreadable')}
    return counts | dict(with_refusals=limits(evaluation['with_refusals'], evaluation['with_refusals']))


def of_source(part, target, marked):
    "What is reported of the images of one source"
    found = evaluate(part.reset_index(drop=True), target)
    each = [compute_metrics(LabelledPredictions(p, target), resamples=0)['auroc']['value'] for _, p in part.groupby('fold')]
    return dict(images=len(part), refused=found['n_refused'], groups=found['n_groups'],
                fractured=int((part.label == 'fractured').sum()), **refusals(found),
                metrics=limits(found['metrics'], SHOWN), three_answers=three_answers(part),
                three_answers_with_refusals=three_answers_with_refusals(part),
                folds=[round(value, 4) for value in each], **without_marks(part, target, marked))


def without_marks(part, target, marked):
    "AUROC without the images on which the audit found coloured arrows and the like, where it found any"
    plain = part[~part.path.isin(marked)].reset_index(drop=True)
    if len(plain) == len(part):
        return {}
    auroc = limits(compute_metrics(LabelledPredictions(plain, target), resamples=500), ('auroc',))['auroc']
    return dict(marked=len(part) - len(plain), auroc_without=auroc)


def against_boxes(run, bundles, findings):
    "The evidence maps of all folds against the boxes of the images that each held out, where the data have boxes"
    data = run.parent/bundles[0].config['training']['data']
    boxes = read_dataset(str(data)).boxes if data.is_file() else []
    if not len(boxes):
        return {}
    of_folds = zip(bundles, findings.groupby('fold'))
    maps = pd.concat([evaluate_localization(Predictor(b), part, boxes, quiet=True) for b, (_, part) in of_folds])
    means = {k: float(maps[k].mean()) for k in ('overlap', 'inside', 'by_chance', 'outside_body')}
    return {'maps': dict(images=len(maps), **means, pointing=share(maps.pointing))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('run', type=Path)
    run = parser.parse_args().run
    bundles = [load_bundle(p) for p in sorted(run.glob('fold-*/bundle'))]
    findings, target = held_out(run, bundles), bundles[0].config['target']
    assert not findings.in_training.any()
    audited = run.parent/Path(bundles[0].config['training']['data']).parent/'audit.json'
    marked = {m['path'] for m in json.loads(audited.read_text())['marks']} if audited.is_file() else set()
    pooled = evaluate(findings, target)
    each = [compute_metrics(LabelledPredictions(part, target), resamples=500) for _, part in findings.groupby('fold')]
    result = dict(run=run.name, command=bundles[0].config['training']['command'], images=len(findings),
                  refused=pooled['n_refused'], groups=pooled['n_groups'], **refusals(pooled),
                  metrics=limits(pooled['metrics'], SHOWN), folds=[{m: f[m]['value'] for m in SHOWN} for f in each],
                  minutes=[b.config['training']['minutes'] for b in bundles],
                  per_region={r: limits(f, ('auroc',)) | dict(n=f['n']) for r, f in pooled['per_region'].items()},
                  per_class=pooled['per_class'], confusion=pooled['confusion'])
    if 'fracture' in set(findings.answer):
        result['three_answers'] = three_answers(findings)
        result['three_answers_with_refusals'] = three_answers_with_refusals(findings)
    if findings.source.nunique() > 1:
        result['per_source'] = {s: of_source(part, target, marked) for s, part in findings.groupby('source')}
    result |= against_boxes(run, bundles, findings)
    save(run.name.replace('-', '_'), **json.loads(json.dumps(rounded(result))))


if __name__ == '__main__':
    main()
