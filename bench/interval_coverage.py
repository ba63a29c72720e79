"""Do 95% intervals hold the truth in 95 of 100 cases?

Test sets of 300 images are simulated, each image alone or one to four images a patient (whose images resemble each other),
with 35, 10 and 3% of the patients fractured. Sensitivity and AUROC are known exactly, for one model and for the difference
between two models on the same images. Also: how often McNemar's test by groups finds a difference between two models that
are equally good, and whether the interval of the calibration error holds 0 where the model is calibrated.

    python bench/interval_coverage.py [--datasets 1000] [--resamples 400]
"""
import argparse

import numpy as np
import pandas as pd
from harness import save
from scipy.stats import norm

from bonefrac.evaluation import LabelledPredictions, compare, compute_metrics

SKILL = 1.8     # Distance of the classes, in standard deviations
BETTER = 2.22   # The same of the second model, whose sensitivity is 0.1 higher
CUT = .9        # Threshold, in standard deviations
LIKE = .6       # Share of the variance that the images of a patient have in common
SHARED = .5     # Share of the variance that two models have in common


def noise(rng, group, like):
    "Standard normal, correlated within a group"
    return np.sqrt(like) * rng.normal(size=len(group))[group] + np.sqrt(1 - like) * rng.normal(size=len(group))


def findings(truth, group, score):
    p = 1 / (1 + np.exp(-score))
    return pd.DataFrame({
        'path': [f'{i}.png' for i in range(len(truth))],
        'label': np.where(truth, 'fractured', 'not fractured'),
        'group': group.astype(str),
        'p_not fractured': 1 - p,
        'p_fractured': p,
    })


def dataset(rng, grouped, prevalence, skills=(SKILL,)):
    "Findings of a model for each skill, on the same 300 images, of which two at least are fractured"
    like = LIKE if grouped else 0
    while True:
        group = np.repeat(np.arange(300), rng.integers(1, 5, 300))[:300] if grouped else np.arange(300)
        truth = (rng.random(300) < prevalence)[group]
        if truth.sum() >= 2:
            break
    shared = noise(rng, group, like)
    scores = [np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * noise(rng, group, like) for _ in skills]
    return [findings(truth, group, score + skill * truth - CUT) for score, skill in zip(scores, skills)]


def holds(found, value):
    "Does an interval hold the true value?"
    return found['low'] is not None and found['low'] <= value <= found['high']


def one_model(grouped, prevalence, datasets, resamples=400):
    "How often the intervals of one model held the truth, and how often a note warned"
    truth = dict(sensitivity=norm.cdf(SKILL - CUT), auroc=norm.cdf(SKILL / np.sqrt(2)))
    rng, rows = np.random.default_rng(1), []
    for seed in range(datasets):
        found = compute_metrics(LabelledPredictions(*dataset(rng, grouped, prevalence)), .5, resamples, seed)
        held = {name: holds(found[name], value) for name, value in truth.items()}
        rows.append(held | dict(warned=bool(found['auroc']['note'])))
    return rows


def two_models(grouped, prevalence, datasets, resamples=400):
    "How often the intervals of the difference between two models held the truth"
    truth = dict(sensitivity=norm.cdf(BETTER - CUT) - norm.cdf(SKILL - CUT),
                 auroc=norm.cdf(BETTER / np.sqrt(2)) - norm.cdf(SKILL / np.sqrt(2)))
    rng, rows = np.random.default_rng(2), []
    for seed in range(datasets):
        found = compare(*dataset(rng, grouped, prevalence, (SKILL, BETTER)), resamples=resamples, seed=seed)['metrics']
        held = {name: holds(found[name], value) for name, value in truth.items()}
        low, high = found['sensitivity']['low'], found['sensitivity']['high']
        rows.append(held | dict(without_width=low is not None and low == high, warned=bool(found['sensitivity']['note'])))
    return rows


def equal_models(grouped, prevalence, datasets, resamples=0):
    "How often McNemar's test is significant at 5% for two models that are equally good"
    rng = np.random.default_rng(3)
    pairs = (dataset(rng, grouped, prevalence, (SKILL, SKILL)) for _ in range(datasets))
    return [dict(mcnemar=compare(*pair, resamples=0)['mcnemar'] < .05) for pair in pairs]   # needs no draws


def calibrated_models(grouped, n, datasets, resamples=400):
    "How often the interval of the calibration error of a calibrated model holds 0, its value, and what the values are"
    rng, rows = np.random.default_rng(4), []
    for seed in range(datasets):
        group = np.repeat(np.arange(n), rng.integers(1, 5, n))[:n] if grouped else np.arange(n)
        score = 1.3 * noise(rng, group, LIKE if grouped else 0) - .7
        truth = norm.cdf(noise(rng, group, LIKE if grouped else 0)) < 1 / (1 + np.exp(-score))
        found = compute_metrics(LabelledPredictions(findings(truth, group, score)), .5, resamples, seed)['ece']
        rows.append(dict(holds_0=found['low'] == 0, holds_value=holds(found, found['value']), mean=found['value']))
    return rows


def summary(rows, grouped, **about):
    "Shares over simulated datasets"
    shares = {k: round(float(v), 3) for k, v in pd.DataFrame(rows).mean().items()}
    return dict(images='one to four a patient' if grouped else 'alone', **about) | shares


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--datasets', type=int, default=1000)
    parser.add_argument('--resamples', type=int, default=400)
    given = parser.parse_args()
    n, resamples = given.datasets, given.resamples
    kinds = [(grouped, prevalence) for grouped in (False, True) for prevalence in (.35, .1, .03)]
    runs = {}
    for name, run in (('runs', one_model), ('differences', two_models), ('equal_models', equal_models)):
        runs[name] = [summary(run(g, p, n, resamples), g, positives=round(300 * p)) for g, p in kinds]
        print(name, *runs[name], sep='\n', flush=True)
    runs['calibration'] = [summary(calibrated_models(g, i, n, resamples), g, n=i) for g in (False, True) for i in (100, 500)]
    save('interval_coverage', datasets=n, resamples=resamples, **runs)


if __name__ == '__main__':
    main()
