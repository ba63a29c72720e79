"""Do 95 % intervals hold the truth in 95 of 100 cases?

Datasets of 300 images are simulated, each image alone or one to four images a patient (whose images resemble each other),
with 35, 10 and 3 % of the patients fractured; sensitivity and AUROC are known exactly.

    python bench/interval_coverage.py [--datasets 1000]
"""
import argparse

import numpy as np
import pandas as pd
from harness import save
from scipy.stats import norm

from bonefrac.evaluation import LabelledPredictions, figures

SKILL, CUT, LIKE = 1.8, .9, .6   # distance of the classes and threshold, in standard deviations; share of the spread that a patient's images have in common


def dataset(rng, grouped, prevalence):
    "300 images as a findings table"
    group = np.repeat(np.arange(300), rng.integers(1, 5, 300))[:300] if grouped else np.arange(300)
    truth, like = (rng.random(300) < prevalence)[group], LIKE if grouped else 0
    score = np.sqrt(like) * rng.normal(size=300)[group] + np.sqrt(1 - like) * rng.normal(size=300) + SKILL * truth - CUT
    p = 1 / (1 + np.exp(-score))
    return pd.DataFrame({'label': np.where(truth, 'fractured', 'not fractured'), 'group': group.astype(str), 'p_not fractured': 1 - p, 'p_fractured': p})


def coverage(grouped, prevalence, datasets):
    "How often the intervals held the truth, and how often the note warned"
    truth, rng, rows = dict(sensitivity=norm.cdf(SKILL - CUT), auroc=norm.cdf(SKILL / np.sqrt(2))), np.random.default_rng(1), []
    while len(rows) < datasets:
        images = dataset(rng, grouped, prevalence)
        if (images.label == 'fractured').sum() < 2: continue
        found = figures(LabelledPredictions(images), .5, 1000, len(rows))
        rows.append({m: found[m]['low'] is not None and found[m]['low'] <= v <= found[m]['high'] for m, v in truth.items()} | dict(warned=bool(found['auroc']['issue'])))
    return dict(images='one to four a patient' if grouped else 'alone', positives=round(300 * prevalence), **{k: round(float(v), 3) for k, v in pd.DataFrame(rows).mean().items()})


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--datasets', type=int, default=1000)
n = parser.parse_args().datasets
save('interval_coverage', datasets=n, resamples=1000, runs=[coverage(g, p, n) for g in (False, True) for p in (.35, .1, .03)])
