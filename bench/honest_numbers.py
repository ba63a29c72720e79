"""The same nets on a set's published split and on the audit's clean one: what a figure measures when test images lie in the training set.

    python bench/honest_numbers.py runs/honest     (an hour on two cores; goes on where it was stopped)

Needs BONEFRAC_DATA. Each net is trained with one recipe, which differs between the splits in nothing but the split.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

from harness import save

from bonefrac.datasets import read_dataset
from bonefrac.files import save_csv

SIZE = 128
SETS = {'multiregion': dict(epochs=3), 'bonebreak10': dict(epochs=6)}
TORN = {'bonebreak10'}   # sets whose published split parts groups
NETS = {'mobilenetv2_100': {}, 'tf_efficientnet_lite0': {}, 'small_cnn': dict(lr=3e-3)}
FIGURES = ('accuracy', 'balanced_accuracy', 'sensitivity', 'specificity', 'f1', 'auroc', 'top2')


def bonefrac(*args): subprocess.run([Path(sys.executable).with_name('bonefrac'), *map(str, args), '--quiet'], check=True, stdout=subprocess.DEVNULL)


def published(name, out):
    "A set with its published split as it is; groups are left out, or training would refuse a split that tears them apart"
    if not out.exists(): save_csv(read_dataset(name).images.drop(columns='group'), out)
    return out


def measured(folder, data, net, **recipe):
    "Trained and tested, unless it was already"
    options = [o for k, v in recipe.items() for o in (f'--{k}', v)]
    if not (folder/'bundle').exists(): bonefrac('train', data, '--arch', net, '--size', SIZE, *options, *(['--resume'] if folder.exists() else []), '--out', folder)
    if not (folder/'eval'/'metrics.json').exists(): bonefrac('evaluate', folder/'bundle', data, '--out', folder/'eval')
    found = json.loads((folder/'eval'/'metrics.json').read_text())
    return dict(images=found['n'], groups=found['n_groups'], in_training=found['n_in_training'], refused=found['n_refused'], **{m: {k: found['metrics'][m][k] and round(found['metrics'][m][k], 4) for k in ('value', 'low', 'high')} for m in FIGURES})


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('out', type=Path)
out = parser.parse_args().out
rows = []
for name, recipe in SETS.items():
    audited = out/f'audit-{name}'
    if not (audited/'images.csv').exists(): bonefrac('audit', name, '--out', audited)
    for net, more in NETS.items():
        for split, data in (('published', published(name, out/f'{name}.csv') if name in TORN else name), ('clean', audited/'images.csv')):
            rows.append(dict(set=name, net=net, split=split, **measured(out/f'{name}-{net}-{split}', data, net, **recipe | more)))
            print(rows[-1], flush=True)
save('honest_numbers', size=SIZE, runs=rows)
