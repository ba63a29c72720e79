"""How many planted label errors stand at the top of the worklist?

Of 1,000 phantoms 20 get the wrong label; boxes on an image that is now labelled as not fractured are removed. A model that was
trained on other phantoms is fine-tuned in folds, so that each image is predicted by one that never saw it, and the worklist
ranks them.

    python bench/label_errors.py [--images 1000] [--errors 20] [--others 2400]
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from harness import save

from bonefrac.datasets import FRACTURED, NOT_FRACTURED
from bonefrac.evaluation import LabelledPredictions, compute_metrics
from bonefrac.phantoms import phantom_dataset
from bonefrac.review import worklist

FIRST = ('--arch', 'mobilenetv2_100', '--size', '224', '--epochs', '7', '--lr', '0.002', '--boxes')
THEN = ('--size', '224', '--epochs', '1', '--freeze-epochs', '0', '--lr', '0.0003', '--boxes', '--folds', '4')


def save_set(images, boxes, folder):
    folder.mkdir()
    images.to_csv(folder/'images.csv', index=False)
    boxes[boxes.path.isin(images.path[images.label == FRACTURED])].to_csv(folder/'boxes.csv', index=False)


def train(*args): subprocess.run([Path(sys.executable).with_name('bonefrac'), 'train', *map(str, args)], check=True)


def with_errors(images, n):
    "The images with n wrong labels; which these are"
    wrong = images.sample(n, random_state=0).index
    other = images.label.map({FRACTURED: NOT_FRACTURED, NOT_FRACTURED: FRACTURED})
    return images.assign(split='', label=images.label.where(~images.index.isin(wrong), other)), set(images.path[wrong])


def fine_tuned(folder, images, others, boxes):
    "Findings of the images in folds of a model that was trained on others"
    save_set(others.assign(split=others.split.replace('test', 'train')), boxes, folder/'others')
    train(folder/'others'/'images.csv', *FIRST, '--out', folder/'first')
    save_set(images, boxes, folder/'planted')
    train(folder/'planted'/'images.csv', *THEN, '--init', folder/'first'/'bundle', '--out', folder/'run')
    return pd.read_csv(folder/'run'/'findings.csv', keep_default_na=False)


def found_by_truth(work, planted, truth):
    "How many planted errors of each kind are among the first 40"
    first = set(work.path[:40])
    kinds = {kind: {p for p in planted if truth[p] == kind} for kind in (FRACTURED, NOT_FRACTURED)}
    return {kind: f'{len(paths & first)} of {len(paths)}' for kind, paths in kinds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=1000)
    parser.add_argument('--errors', type=int, default=20)
    parser.add_argument('--others', type=int, default=2400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn, boxes = phantom_dataset(args.images + args.others, f'{folder}/drawn')
        images, others = drawn[:args.images], drawn[args.images:]
        truth = images.set_index('path').label
        images, planted = with_errors(images, args.errors)
        others = others[~others.group.isin(images.group)]   # no patient on both sides
        findings = fine_tuned(Path(folder), images, others, boxes)
        work = worklist(findings)
    auroc = compute_metrics(LabelledPredictions(findings.assign(label=findings.path.map(truth))), resamples=200)['auroc']
    save('label_errors', images=len(findings), planted=args.errors, others=args.others,
         recipe=[' '.join(FIRST), ' '.join(THEN)],
         auroc_on_true_labels={k: round(auroc[k], 3) for k in ('value', 'low', 'high')},
         found_in_first={n: len(planted & set(work.path[:n])) for n in (20, 40, 80)},
         first_40_by_truth=found_by_truth(work, planted, truth), flagged=int(work.label_error.sum()),
         flagged_rightly=len(planted & set(work.path[work.label_error])))


if __name__ == '__main__':
    main()
