"""What cross-validated runs reach on the images that each fold held out: pooled over the folds that are done, with intervals, and fold by fold.

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
from bonefrac.evaluation import LabelledPredictions, evaluate, figures, read_findings, wilson_interval
from bonefrac.explain import evaluate_localization
from bonefrac.prediction import Predictor

TEXT = 'label', 'region', 'group', 'refused', 'issue'


def rounded(o):
    if isinstance(o, dict): return {k: rounded(v) for k, v in o.items()}
    return round(o, 4) if isinstance(o, float) else o


def held_out(run, bundles):
    "findings.csv, which stands there once all folds are done; before, the images of those that are"
    if (run/'findings.csv').exists(): return pd.read_csv(run/'findings.csv', dtype=dict.fromkeys(TEXT, str)).fillna(dict.fromkeys(TEXT, ''))
    return pd.concat(map(answered, bundles), ignore_index=True)


def answered(bundle):
    "What a fold's net says of the images that it held out: as `bonefrac evaluate` has left it in eval beside the bundle, or asked now"
    fold = bundle.folder.parent
    metrics = fold/'eval'/'metrics.json'
    if metrics.exists() and json.loads(metrics.read_text())['model'] == bundle.config['files']['model.onnx']: return read_findings(fold/'eval'/'findings.csv')
    images = read_images_csv(fold/'images.csv')
    return Predictor(bundle).findings(images[images.usable & (images.split == 'test')])


def share(mask):
    low, high = wilson_interval(mask.mean(), len(mask))
    return dict(value=float(mask.mean()), low=low, high=high, n=len(mask))


def three_answers(findings):
    "What each fold's own operating points made of the images that it held out"
    told = findings[findings.refused == '']
    broken, decided = told.label == 'fractured', told.answer != 'doubt'
    yes, no = told.answer == 'fracture', told.answer == 'no fracture'
    return dict(decided=share(decided), sensitivity_of_decided=share(yes[broken & decided]), specificity_of_decided=share(no[~broken & decided]),
                not_ruled_out=share(~no[broken]), not_ruled_in=share(~yes[~broken]))


def shown_of(figures_of, names): return {m: {k: figures_of[m][k] for k in ('value', 'low', 'high')} for m in names}


def of_source(part):
    "What is told of the images of one source"
    found = evaluate(part.reset_index(drop=True), target)
    return dict(images=len(part), refused=found['n_refused'], groups=found['n_groups'], fractured=int((part.label == 'fractured').sum()), metrics=shown_of(found['metrics'], shown), three_answers=three_answers(part),
                folds=[round(figures(LabelledPredictions(p, target), resamples=50)['auroc']['value'], 4) for _, p in part.groupby('fold')], **without_marks(part))


def against_boxes():
    "The evidence maps of all folds against the boxes of the images that each held out, where the data have boxes"
    data = run.parent/bundles[0].config['training']['data']
    boxes = read_dataset(str(data)).boxes if data.is_file() else []
    if not len(boxes): return {}
    maps = pd.concat([evaluate_localization(Predictor(b), part, boxes, quiet=True) for b, (_, part) in zip(bundles, findings.groupby('fold'))])
    return {'maps': dict(images=len(maps), **{k: float(maps[k].mean()) for k in ('overlap', 'inside', 'by_chance', 'outside_body')}, pointing=share(maps.pointing))}


def without_marks(part):
    "The area under the ROC curve without the images on which the audit has found coloured arrows and the like, where it has found any"
    plain = part[~part.path.isin(marked)].reset_index(drop=True)
    return dict(marked=len(part) - len(plain), auroc_without=shown_of(figures(LabelledPredictions(plain, target), resamples=500), ('auroc',))['auroc']) if len(plain) < len(part) else {}


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('run', type=Path)
run = parser.parse_args().run
bundles = [load_bundle(p) for p in sorted(run.glob('fold-*/bundle'))]
findings = held_out(run, bundles)
audited = run.parent/Path(bundles[0].config['training']['data']).parent/'audit.json'
marked = {m['path'] for m in json.loads(audited.read_text())['marks']} if audited.is_file() else set()
target = bundles[0].config['target']
pooled = evaluate(findings, target)
assert not findings.in_training.any()
each = [figures(LabelledPredictions(part, target), resamples=500) for _, part in findings.groupby('fold')]
minutes = [b.config['training']['minutes'] for b in bundles]
shown = ('auroc', 'average_precision', 'accuracy', 'balanced_accuracy', 'top2', 'f1', 'kappa', 'ece')
result = dict(run=run.name, command=bundles[0].config['training']['command'], images=len(findings), refused=pooled['n_refused'], groups=pooled['n_groups'],
              metrics=shown_of(pooled['metrics'], shown), folds=[{m: f[m]['value'] for m in shown} for f in each], minutes=minutes,
              per_region={r: shown_of(f, ('auroc',)) | dict(n=f['n']) for r, f in pooled['per_region'].items()}, per_class=pooled['per_class'], confusion=pooled['confusion'])
if 'fracture' in set(findings.answer): result['three_answers'] = three_answers(findings)
if findings.source.nunique() > 1: result['per_source'] = {s: of_source(part) for s, part in findings.groupby('source')}
result |= against_boxes()
save(run.name.replace('-', '_'), **json.loads(json.dumps(rounded(result))))
