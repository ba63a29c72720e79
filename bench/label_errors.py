"""How many planted label errors stand at the top of the worklist?

Of 1,000 phantoms 20 get the wrong label; boxes on an image that is now said to be unbroken go. A net that has learnt from
other phantoms is tuned in folds, so that every image is answered by one that never saw it, and the worklist ranks them.

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
from bonefrac.evaluation import LabelledPredictions, figures
from bonefrac.phantoms import phantom_dataset
from bonefrac.review import worklist

FIRST = ('--arch', 'mobilenetv2_100', '--size', '224', '--epochs', '7', '--lr', '0.002', '--boxes')
THEN = ('--size', '224', '--epochs', '1', '--freeze-epochs', '0', '--lr', '0.0003', '--boxes', '--folds', '4')


def save_set(images, boxes, folder):
    folder.mkdir()
    images.to_csv(folder/'images.csv', index=False)
    boxes[boxes.path.isin(images.path[images.label == FRACTURED])].to_csv(folder/'boxes.csv', index=False)


def train(*args): subprocess.run([Path(sys.executable).with_name('bonefrac'), 'train', *map(str, args)], check=True)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--images', type=int, default=1000)
parser.add_argument('--errors', type=int, default=20)
parser.add_argument('--others', type=int, default=2400)
args = parser.parse_args()
with tempfile.TemporaryDirectory() as folder:
    drawn, boxes = phantom_dataset(args.images + args.others, f'{folder}/drawn')
    images, others = drawn[:args.images], drawn[args.images:]
    others = others[~others.group.isin(images.group)]   # no patient on both sides
    save_set(others.assign(split=others.split.replace('test', 'train')), boxes, Path(folder)/'others')
    train(f'{folder}/others/images.csv', *FIRST, '--out', f'{folder}/first')
    wrong = images.sample(args.errors, random_state=0).index
    truth = images.set_index('path').label
    images = images.assign(split='', label=images.label.where(~images.index.isin(wrong), images.label.map({FRACTURED: NOT_FRACTURED, NOT_FRACTURED: FRACTURED})))
    save_set(images, boxes, Path(folder)/'planted')
    train(f'{folder}/planted/images.csv', *THEN, '--init', f'{folder}/first/bundle', '--out', f'{folder}/run')
    findings = pd.read_csv(f'{folder}/run/findings.csv', keep_default_na=False)
    work, planted = worklist(findings), set(images.path[wrong])
    area = figures(LabelledPredictions(findings.assign(label=findings.path.map(truth))), resamples=200)['auroc']
    save('label_errors', images=len(findings), planted=args.errors, others=args.others, recipe=[' '.join(FIRST), ' '.join(THEN)], auroc_on_true_labels={k: round(area[k], 3) for k in ('value', 'low', 'high')},
         found_in_first={n: len(planted & set(work.path[:n])) for n in (20, 40, 80)},
         first_40_by_truth={kind: f'{len(planted & set(work.path[:40]) & set(truth.index[truth == kind]))} of {sum(truth[p] == kind for p in planted)}' for kind in (FRACTURED, NOT_FRACTURED)}, flagged=int(work.label_error.sum()), flagged_rightly=len(planted & set(work.path[work.label_error])))
