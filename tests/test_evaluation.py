"Metrics against scikit-learn and against what they were before they were taken apart; and every defect found since"
import importlib.util
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as skm
from scipy.stats import binomtest, chi2

from bonefrac import intervals, metrics, plots
from bonefrac.evaluation import (METRICS, Evaluation, EvaluationError, LabelledPredictions, bootstrap_weights,
                                 calibration_table, compare, compute_metrics, evaluate, mcnemar_test, read_findings,
                                 roc_points, selective_metrics, subgroups, threshold_for, threshold_table,
                                 undo_temperature, wilson_interval, worst_subgroup)
from bonefrac.files import save_json

plt.switch_backend('agg')

STORED = Path(__file__).with_name('metrics_before.json')


def simulated(n=500, patients=300, k=2, seed=0, skill=1.6, prevalence=.35):
    "Findings of a model that is good but not perfect"
    rng = np.random.default_rng(seed)
    group = rng.integers(0, patients, n)
    if k == 2:
        truth = (rng.random(patients) < prevalence).astype(int)[group]
        names = ['not fractured', 'fractured']
    else:
        truth = rng.integers(0, k, patients)[group]
        names = [f'type {i}' for i in range(k)]
    logits = rng.normal(0, 1, (n, k))
    logits[np.arange(n), truth] += skill
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return pd.DataFrame({
        'path': [f'{i}.png' for i in range(n)],
        'label': [names[t] for t in truth],
        'group': [f'patient-{g}' for g in group],
        'region': np.where(group % 3 == 0, 'hand', 'leg'),
        **{f'p_{c}': p[:, i] for i, c in enumerate(names)},
        'refused': '',
        'in_training': False,
    })


def cases():
    "{name: findings, threshold} for which values are stored"
    base = simulated()
    return {
        'two classes, grouped': (base, .5),
        'two classes, low threshold': (base, .3),
        'alone': (base.assign(group=''), .5),
        'ties': (base.assign(**{c: base[c].round(1) for c in ('p_fractured', 'p_not fractured')}), .5),
        'few positives': (simulated(300, 200, prevalence=.03, seed=4), .5),
        'five classes': (simulated(k=5, seed=1), .5),
        'three classes, few groups': (simulated(60, 15, k=3, seed=2), .5),
        'one class only': (base[base.label == 'not fractured'], .5),
        'one group': (base.assign(group='all of them'), .5),
        'perfect': (simulated(200, 150, skill=40, seed=3), .5),
        'useless': (simulated(80, 80, skill=0, seed=5), .5),
    }


@pytest.mark.parametrize('name', cases())
def test_metrics_are_what_they_were(name):
    findings, threshold = cases()[name]
    found = compute_metrics(LabelledPredictions(findings), threshold, resamples=400)
    stored = json.loads(STORED.read_text())[name]
    assert list(found) == list(stored)
    for metric in set(stored) - {'ece'}:
        for key in ('value', 'low', 'high'):
            before, now = stored[metric][key], found[metric][key]
            assert now == before or now == pytest.approx(before, rel=1e-9, abs=1e-12), (metric, key)


def by_sklearn(of, threshold=.5):
    y_true, p = of.y_true, of.y_prob
    if of.n_classes == 2:
        y_pred = (p[:, 1] >= threshold).astype(int)
        tn, fp, fn, tp = skm.confusion_matrix(y_true, y_pred).ravel()
        averages = {}
        own = dict(specificity=tn / (tn + fp), npv=tn / (tn + fn), auroc=skm.roc_auc_score(y_true, p[:, 1]),
                   average_precision=skm.average_precision_score(y_true, p[:, 1]),
                   brier=skm.brier_score_loss(y_true, p[:, 1]))
    else:
        y_pred, averages = p.argmax(1), dict(average='macro')
        own = dict(top2=skm.top_k_accuracy_score(y_true, p, k=2),
                   auroc=skm.roc_auc_score(y_true, p, multi_class='ovr'),
                   average_precision=skm.average_precision_score(np.eye(of.n_classes)[y_true], p),
                   brier=skm.brier_score_loss(y_true, p, scale_by_half=True))
    return own | dict(
        accuracy=skm.accuracy_score(y_true, y_pred),
        balanced_accuracy=skm.balanced_accuracy_score(y_true, y_pred),
        sensitivity=skm.recall_score(y_true, y_pred, **averages),
        precision=skm.precision_score(y_true, y_pred, **averages),
        f1=skm.f1_score(y_true, y_pred, **averages),
        kappa=skm.cohen_kappa_score(y_true, y_pred),
        log_loss=skm.log_loss(y_true, p),
    )


@pytest.mark.parametrize('name', ['two classes, grouped', 'five classes', 'ties', 'few positives'])
def test_metrics_agree_with_sklearn(name):
    of = LabelledPredictions(cases()[name][0])
    ours = metrics.metric_values(of.y_true, of.y_prob)
    for metric, value in by_sklearn(of).items():
        assert ours[metric][0] == pytest.approx(value, abs=1e-9), metric


def test_weights_do_what_repeats_would_do():
    of = LabelledPredictions(simulated())
    times = np.random.default_rng(1).integers(0, 3, len(of))
    again = np.repeat(np.arange(len(of)), times)
    weighted = metrics.metric_values(of.y_true, of.y_prob, times[None].astype(float))
    repeated = metrics.metric_values(of.y_true[again], of.y_prob[again])
    for name in METRICS:
        assert weighted[name][0] == pytest.approx(repeated[name][0], abs=1e-9, nan_ok=True), name


def test_every_metric_has_its_meaning():
    assert all(compute.__doc__ for compute, _ in METRICS.values()) and len(METRICS) == 14


# 1. comparison of two models


def family(copies, right_a, right_b, n=0):
    "Two findings tables: a family of copies, and n single images on which both are right"
    names, groups = [f'{i}.png' for i in range(copies + n)], ['family'] * copies + [''] * n
    labels = ['fractured'] * copies + ['fractured', 'not fractured'] * (n // 2)
    def table(right):
        p = np.r_[np.full(copies, .9 if right else .1), np.tile([.9, .1], n // 2)]
        return pd.DataFrame({'path': names, 'label': labels, 'group': groups, 'p_not fractured': 1 - p, 'p_fractured': p})
    return table(right_a), table(right_b)


def test_a_family_of_copies_is_one_witness():
    found = compare(*family(20, False, True, 40), resamples=200)
    assert (found['only_a_right'], found['only_b_right']) == (0, 20)
    assert found['mcnemar'] == 1.


def test_single_images_get_the_exact_test():
    alone, better = (f.assign(group='') for f in family(10, False, True, 40))
    assert compare(alone, better, resamples=50)['mcnemar'] == pytest.approx(2 * .5 ** 10)
    rng = np.random.default_rng(0)
    a, b = rng.random(50) < .6, rng.random(50) < .8
    p = binomtest(int((a & ~b).sum()), int((a != b).sum())).pvalue
    assert mcnemar_test(a, b, np.arange(50)) == pytest.approx(p)


def test_clustered_mcnemar_is_the_published_formula():
    "Durkalski et al. 2003: (sum (b - c) / n)^2 / sum ((b - c) / n)^2 over the clusters; counts of their kind"
    only_b, only_a = np.array([51, 67, 44, 58, 47]), np.array([18, 26, 43, 21, 28])
    size = np.array([70, 98, 88, 83, 80])
    by_hand = sum((b - c) / n for b, c, n in zip(only_b, only_a, size)) ** 2
    by_hand /= sum(((b - c) / n) ** 2 for b, c, n in zip(only_b, only_a, size))
    assert intervals.durkalski_statistic((only_b - only_a) / size) == pytest.approx(by_hand)
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 60, 200)
    a, b = rng.random(200) < .6, rng.random(200) < .75
    shares = np.array([(b[groups == g].astype(float) - a[groups == g]).mean() for g in np.unique(groups)])
    expected = chi2.sf(shares.sum() ** 2 / (shares ** 2).sum(), 1)
    assert mcnemar_test(a, b, groups) == pytest.approx(expected)


def test_without_clusters_the_statistic_is_mcnemars():
    change = np.array([1] * 30 + [-1] * 14 + [0] * 100)
    assert intervals.durkalski_statistic(change) == pytest.approx((30 - 14) ** 2 / (30 + 14))


@pytest.fixture(scope='module')
def bench():
    "bench/interval_coverage.py"
    folder = Path(__file__).parents[1]/'bench'
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location('interval_coverage', folder/'interval_coverage.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def share(rows, key): return np.mean([row[key] for row in rows])


def test_mcnemar_finds_nothing_between_equal_models(bench):
    assert .01 <= share(bench.equal_models(True, .35, 300), 'mcnemar') <= .09


@pytest.mark.parametrize('grouped', [False, True])
def test_difference_intervals_hold_with_few_positives(bench, grouped):
    prevalence = .1 if grouped else .03
    rows = bench.two_models(grouped, prevalence, 100, resamples=200)
    assert share(rows, 'sensitivity') >= .9 and share(rows, 'auroc') >= .88
    assert share(rows, 'without_width') == 0 and share(rows, 'warned') > .95


def test_intervals_hold(bench):
    rows = bench.one_model(True, .35, 100, resamples=200)
    assert .88 <= share(rows, 'sensitivity') and .88 <= share(rows, 'auroc')


def test_differences_on_one_group_have_a_note_and_no_interval():
    a, b = family(20, False, True, 40)
    of = compare(a, b, resamples=200)['metrics']['sensitivity']
    assert of['low'] is not None and set(of) == {'a', 'b', 'difference', 'low', 'high', 'note'}
    one = compare(a.assign(group='all'), b.assign(group='all'), resamples=200)['metrics']['sensitivity']
    assert (one['low'], one['high']) == (None, None) and 'no interval' in one['note']
    few = compare(a.head(26), b.head(26), resamples=200)['metrics']['sensitivity']
    assert 'too narrow' in few['note']


def test_the_better_model_is_better():
    worse, better = simulated(skill=1.2), simulated(skill=2.4)
    found = compare(worse, better, resamples=300)
    assert set(found) == {'n', 'left_out', 'only_a_right', 'only_b_right', 'mcnemar', 'metrics'}
    assert found['metrics']['auroc']['low'] > 0 and found['mcnemar'] < .01
    assert 'top2' not in found['metrics'] and 'accuracy' in found['metrics']
    json.dumps(found, allow_nan=False)
    same = compare(worse, worse.sample(frac=1, random_state=0), resamples=100)
    assert (same['mcnemar'], same['metrics']['auroc']['difference'], same['left_out']) == (1., 0., 0)
    assert compare(worse, better.head(400), resamples=50)['left_out'] == 100


def test_images_are_matched_by_path_unless_asked():
    findings = simulated()
    elsewhere = findings.assign(path='other/' + findings.path)
    with pytest.raises(EvaluationError, match='no image in common'):
        compare(findings, elsewhere)
    assert compare(findings, elsewhere, by='name', resamples=20)['n'] == len(findings)
    twice = findings.assign(path=[f'{i % 2}/{i // 2}.png' for i in range(len(findings))])
    with pytest.raises(EvaluationError, match='more than once by name'):
        compare(twice, twice, by='name')
    assert compare(twice, twice, resamples=20)['n'] == len(findings)
    with pytest.raises(EvaluationError, match='more than once by path'):
        compare(pd.concat([findings, findings]), findings)
    with pytest.raises(EvaluationError, match='differ in its label'):
        compare(findings, findings.assign(label=findings.label.to_numpy()[::-1]))
    with pytest.raises(EvaluationError, match="'path' or by 'name'"):
        compare(findings, findings, by='size')


# 2. calibration error


def calibrated(seed, n=120, grouped=False):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    truth = rng.random(n) < p
    group = [str(i // 2) for i in range(n)] if grouped else [''] * n
    return pd.DataFrame({'label': np.where(truth, 'fractured', 'not fractured'), 'group': group,
                         'p_not fractured': 1 - p, 'p_fractured': p})


def test_calibration_error_lies_in_its_interval():
    inside = zero = 0
    for seed in range(60):
        found = compute_metrics(LabelledPredictions(calibrated(seed, grouped=seed % 2 == 1)), resamples=200)['ece']
        inside += found['low'] <= found['value'] <= found['high']
        zero += found['low'] == 0
    assert inside == 60 and zero >= 54


def test_calibration_error_has_less_bias():
    plain, corrected = [], []
    for seed in range(60):
        of = LabelledPredictions(calibrated(seed))
        plain.append(metrics.metric_values(of.y_true, of.y_prob)['ece'][0])
        corrected.append(compute_metrics(of, resamples=0)['ece']['value'])
    assert np.mean(corrected) < .6 * np.mean(plain) and min(corrected) >= 0


def test_a_real_calibration_error_is_not_flattered():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        p = rng.uniform(.5, 1, 400)
        truth = rng.random(400) < p - .15
        findings = pd.DataFrame({'label': np.where(truth, 'fractured', 'not fractured'),
                                 'p_not fractured': 1 - p, 'p_fractured': p})
        found.append(compute_metrics(LabelledPredictions(findings), resamples=200)['ece'])
    assert np.mean([f['value'] for f in found]) == pytest.approx(.15, abs=.01)
    assert np.mean([f['low'] <= .15 <= f['high'] for f in found]) >= .9


def test_plain_calibration_error_by_hand():
    p = np.array([.9, .9, .2, .2])
    assert metrics.ece(np.array([1, 0, 0, 0]), np.stack([1 - p, p], 1), np.ones((1, 4)))[0] == pytest.approx(.3)


# 3. ranges


@pytest.mark.parametrize('wanted', [dict(sensitivity=1.2), dict(sensitivity=-.1), dict(specificity=95),
                                    dict(specificity=float('nan'))])
def test_wanted_shares_are_shares(wanted):
    with pytest.raises(EvaluationError, match='from 0 to 1'):
        threshold_for(LabelledPredictions(simulated()), **wanted)


def test_thresholds_and_prevalence_are_shares():
    findings = simulated()
    of = LabelledPredictions(findings)
    for prevalence in (5, 0, -.1, float('nan')):
        with pytest.raises(EvaluationError, match='between 0 and 1'):
            threshold_table(of, prevalence=prevalence)
    for call in (lambda: compute_metrics(of, 50), lambda: threshold_table(of, dict(threshold=1.5)),
                 lambda: evaluate(findings, operating_points=dict(threshold=-1)),
                 lambda: evaluate(findings, operating_points=dict(threshold=.5, rule_in=7), resamples=5)):
        with pytest.raises(EvaluationError, match='from 0 to 1'):
            call()
    with pytest.raises(EvaluationError, match='either a sensitivity or a specificity'):
        threshold_for(of)
    healthy = LabelledPredictions(findings[findings.label == 'not fractured'])
    with pytest.raises(EvaluationError, match='no image is fractured'):
        threshold_for(healthy, sensitivity=.9)


def test_thresholds_reach_what_is_wanted():
    of = LabelledPredictions(simulated())
    table = threshold_table(of, dict(threshold=.4), prevalence=.05)
    assert list(table) == ['what', 'threshold', 'sensitivity', 'specificity', 'ppv', 'npv', 'true_positives',
                           'false_negatives', 'false_positives', 'true_negatives']
    for wanted in (.8, .9, .95, .99):
        row = table[table.what == f'sensitivity {wanted:g}'].iloc[0]
        higher = of.y_prob[of.y_true == 1, 1] >= np.nextafter(row.threshold, 1)
        assert row.sensitivity >= wanted > higher.mean()
    assert (table[table.what.str.startswith('specificity')].specificity >= [.9, .95]).all()
    assert np.allclose(table.iloc[:, -4:].sum(axis=1), 1000)
    for share in (0, 1):
        for name in ('sensitivity', 'specificity'):
            called = of.y_prob[:, 1] >= threshold_for(of, **{name: share})
            of_class = called[of.y_true == 1] if name == 'sensitivity' else ~called[of.y_true == 0]
            assert of_class.mean() == share


# 4. refusals


def refused_ones(findings, rows, reason='not a bone radiograph (OOD score 1.4)'):
    findings = findings.copy()
    findings.loc[rows, [c for c in findings if c.startswith('p_')]] = np.nan
    findings.loc[rows, 'refused'] = reason
    return findings


def test_refusals_are_told_apart():
    findings = simulated()
    for i, reason in enumerate(['not a bone radiograph (OOD score 1.4)', 'not grey, 29% of it in colours',
                                'does not look like a bone radiograph (ood_score 1.1)', 'truncated file', 'no such file']):
        findings = refused_ones(findings, [i], reason)
    found = evaluate(findings, resamples=20)
    assert (found['n'], found['n_refused'], found['n_rejected'], found['n_unreadable']) == (495, 5, 3, 2)
    assert found['coverage'] == pytest.approx(.99)


def test_refusals_can_be_held_against_the_model():
    findings = simulated()
    fractured = findings.index[findings.label == 'fractured']
    hard = refused_ones(findings, fractured[:23].append(findings.index[findings.label != 'fractured'][:2]))
    found = evaluate(hard, resamples=400)
    tp = ((hard.label == 'fractured') & (hard.p_fractured >= .5)).sum()
    tn = ((hard.label != 'fractured') & (hard.p_fractured < .5)).sum()
    with_refusals = found['with_refusals']
    assert with_refusals['sensitivity']['value'] == pytest.approx(tp / len(fractured))
    assert with_refusals['specificity']['value'] == pytest.approx(tn / (500 - len(fractured)))
    assert with_refusals['coverage']['value'] == pytest.approx(475 / 500)
    for result in with_refusals.values():
        assert result['low'] < result['value'] < result['high'] and result['note'] == ''
    assert with_refusals['sensitivity']['value'] < found['metrics']['sensitivity']['value']


def test_without_refusals_nothing_changes():
    found = evaluate(simulated(), resamples=300)
    for name in ('sensitivity', 'specificity'):
        assert found['with_refusals'][name] == pytest.approx(found['metrics'][name])
    assert found['coverage'] == found['with_refusals']['coverage']['value'] == 1
    many = evaluate(simulated(k=4), resamples=300)
    assert many['with_refusals']['specificity']['value'] == pytest.approx(many['metrics']['specificity']['value'])


def test_unlabelled_refusals_do_not_count():
    findings = refused_ones(simulated(), [0, 1, 2])
    findings.loc[[0, 1], 'label'] = ''
    assert LabelledPredictions(findings).n_refused == 1


# 5. verdict


def test_a_useless_model_is_called_useless():
    found = evaluate(simulated(45, 45, skill=0, seed=1), resamples=300)
    auroc = found['metrics']['auroc']
    assert found['verdict'].startswith('no better than guessing on these 45 images')
    assert f"{auroc['low']:.2f} to {auroc['high']:.2f}" in found['verdict'] and '--init fracture' in found['verdict']
    many = evaluate(simulated(60, 60, k=4, skill=0, seed=1), resamples=300)
    assert 'balanced accuracy' in many['verdict'] and '0.25' in many['verdict']


def test_a_good_model_has_no_verdict():
    assert evaluate(simulated(), resamples=100)['verdict'] == ''
    assert evaluate(simulated(k=5), resamples=100)['verdict'] == ''
    one_class = simulated()[lambda f: f.label == 'fractured']
    assert evaluate(one_class, resamples=50)['verdict'] == ''


# 7. several findings per image


def several(n=300, seed=0, groups=200):
    rng = np.random.default_rng(seed)
    names = np.array(['cast', 'fracture', 'implant'])
    p = rng.random((n, 3)) * [.6, 1, .4]
    present = rng.random((n, 3)) < p
    present[:, 1] |= ~present.any(1)
    return pd.DataFrame({
        'path': [f'{i}.png' for i in range(n)],
        'labels': [';'.join(names[row]) for row in present],
        'group': rng.integers(0, groups, n).astype(str),
        'region': np.where(rng.random(n) < .5, 'hand', 'leg'),
        **{f'p_{c}': p[:, i] for i, c in enumerate(names)},
        'refused': '',
    }), present, p


def test_several_findings_are_evaluated_each():
    findings, present, p = several()
    found = evaluate(findings, 'labels', resamples=100)
    for i, name in enumerate(('cast', 'fracture', 'implant')):
        of = found['per_finding'][name]
        assert of['auroc']['value'] == pytest.approx(skm.roc_auc_score(present[:, i], p[:, i]))
        assert of['average_precision']['value'] == pytest.approx(skm.average_precision_score(present[:, i], p[:, i]))
        assert of['sensitivity']['value'] == pytest.approx(skm.recall_score(present[:, i], p[:, i] >= .5))
        assert of['auroc']['low'] < of['auroc']['value'] < of['auroc']['high']
        matrix = skm.confusion_matrix(present[:, i], p[:, i] >= .5).tolist()
        assert found['confusion']['matrices'][name] == matrix
        assert found['per_class'][name]['n'] == present[:, i].sum()


def test_several_findings_are_averaged():
    findings, present, p = several()
    found = evaluate(findings, 'labels', resamples=100)
    average = found['metrics']
    assert average['auroc']['value'] == pytest.approx(skm.roc_auc_score(present, p, average='macro'))
    assert average['micro_auroc']['value'] == pytest.approx(skm.roc_auc_score(present, p, average='micro'))
    assert average['sensitivity']['value'] == pytest.approx(skm.recall_score(present, p >= .5, average='macro'))
    assert average['micro_sensitivity']['value'] == pytest.approx(skm.recall_score(present, p >= .5, average='micro'))
    assert all(r['low'] < r['value'] < r['high'] for r in average.values())
    single = set(evaluate(simulated(), resamples=10))
    assert set(found) == single | {'per_finding'}
    json.dumps(found, allow_nan=False)
    assert set(found['per_region']) == {'hand', 'leg'} and found['verdict'] == ''


def test_several_findings_with_refusals_and_strange_labels():
    findings, *_ = several()
    found = evaluate(refused_ones(findings, [0, 1, 2]), 'labels', resamples=50)
    assert found['n_rejected'] == 3 and found['with_refusals']['sensitivity']['value'] < found['metrics']['sensitivity']['value']
    with pytest.raises(EvaluationError, match='screw'):
        evaluate(findings.assign(labels='fracture;screw'), 'labels')
    with pytest.raises(EvaluationError, match='finding by finding'):
        compare(findings, findings, 'labels')


def test_several_findings_have_plots():
    found = evaluate(several()[0], 'labels', resamples=20)
    for plot in (found.plot_confusion, found.plot_roc, found.plot_precision_recall, found.plot_calibration,
                 found.plot_subgroups):
        plot().figure.canvas.draw()
        plt.close('all')
    assert len(found.top_losses(4)) == 4


# 8. the object


def test_an_evaluation_comes_from_findings_and_a_bundle(tmp_path):
    findings, points = simulated(), dict(threshold=.4, rule_out=.2, rule_in=.7)
    bundle = type('Bundle', (), dict(config=dict(operating_points=points, target='label')))
    found = Evaluation.from_findings(findings, bundle, resamples=50)
    assert found == evaluate(findings, operating_points=points, resamples=50)
    assert found == Evaluation.from_findings(findings, points, resamples=50)
    assert isinstance(found, dict) and len(found.predictions) == 500 and found.operating_points == points
    save_json(found, tmp_path/'metrics.json')
    stored = Evaluation(json.loads((tmp_path/'metrics.json').read_text()))
    assert stored == found and 'predictions' not in stored
    assert stored.table().equals(found.table()) and stored.plot_calibration()
    with pytest.raises(EvaluationError, match='from_findings'):
        stored.top_losses()
    plt.close('all')


def test_an_evaluation_plots_itself():
    found = evaluate(simulated(), operating_points=dict(threshold=.4, rule_out=.2, rule_in=.7), resamples=50)
    axs = plt.subplots(5)[1]
    plots_of = found.plot_roc, found.plot_confusion, found.plot_calibration, found.plot_precision_recall, found.plot_subgroups
    for plot, ax in zip(plots_of, axs):
        assert plot(ax=ax) is ax
    worst = found.top_losses(5)
    assert len(worst) == 5 and worst.loss.is_monotonic_decreasing and {'path', 'label', 'prob_of_label'} <= set(worst)
    plt.close('all')


def test_the_display_says_what_was_answered():
    findings = refused_ones(simulated(45, 45, skill=0, seed=1).assign(group=''), [0, 1])
    found = evaluate(findings.assign(in_training=findings.index < 7), resamples=100)
    html = found._repr_html_()
    assert '43 images in 43 groups answered, 2 refused (2 rejected, 0 unreadable), 5 seen in training' in html
    assert 'No better than guessing on these 43 images' in html
    plain = evaluate(simulated(), resamples=50)._repr_html_()
    assert 'refused' not in plain and 'training' not in plain and 'guessing' not in plain


def test_operating_points_are_evaluated():
    points = dict(threshold=.4, rule_out=.2, rule_in=.7)
    found = evaluate(simulated(), operating_points=points, resamples=100)
    at = found['metrics_at_operating_points']
    assert at['threshold']['sensitivity'] == found['metrics']['sensitivity'] and found['threshold'] == .4
    values = [at[name]['sensitivity']['value'] for name in ('rule_out', 'threshold', 'rule_in')]
    assert values == sorted(values, reverse=True)
    p = [.9, .5, .5, .1]
    four = pd.DataFrame({'label': ['fractured'] * 2 + ['not fractured'] * 2, 'p_not fractured': 1 - np.array(p), 'p_fractured': p})
    assert selective_metrics(LabelledPredictions(four), dict(rule_out=.3, rule_in=.7)) == dict(
        errors_deferred=1., coverage=.5, doubt=.5, sensitivity=1., specificity=1.)
    assert evaluate(simulated(k=4), resamples=10)['threshold'] is None


def test_subgroups_add_up_and_the_worst_is_named():
    findings = refused_ones(simulated(), [0, 1])
    parts = subgroups(findings, resamples=100)
    assert sum(of['n'] for of in parts['region'].values()) == 498
    assert sum(of['n_refused'] for of in parts['region'].values()) == 2
    hand = LabelledPredictions(findings[findings.region == 'hand'])
    assert parts['region']['hand']['auroc']['value'] == pytest.approx(skm.roc_auc_score(hand.y_true, hand.y_prob[:, 1]))
    worst = worst_subgroup(parts)
    assert worst['value'] == min(parts['region'], key=lambda r: parts['region'][r]['auroc']['value'])
    assert worst['result'] == parts['region'][worst['value']]['auroc']
    assert worst_subgroup(subgroups(findings.head(20), resamples=50)) is None


def test_metrics_without_meaning_say_why():
    findings = simulated()
    healthy = compute_metrics(LabelledPredictions(findings[findings.label == 'not fractured']), resamples=50)
    assert healthy['auroc']['value'] is None and healthy['sensitivity']['note'] == 'no image is fractured'
    never = compute_metrics(LabelledPredictions(findings), 1., resamples=50)['precision']
    assert (never['value'], never['note']) == (None, 'the model never predicted this class')
    one = compute_metrics(LabelledPredictions(findings.assign(group='all')), resamples=50)['accuracy']
    assert (one['low'], one['note']) == (None, 'rests on 1 group only: no interval')


# 9. plots


def test_axes_are_named():
    found = evaluate(simulated(), resamples=20)
    matrix, reliability = found.plot_confusion(), found.plot_calibration()
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ('predicted label', 'reference label')
    assert (reliability.get_xlabel(), reliability.get_ylabel()) == ('predicted probability', 'observed frequency')
    plt.close('all')


def test_dollar_signs_are_no_mathematics():
    strange = {'not fractured': '$\\frac{x$', 'fractured': 'costs $5 or $6'}
    findings = simulated().rename(columns={f'p_{old}': f'p_{new}' for old, new in strange.items()})
    findings = findings.assign(label=findings.label.map(strange), region=findings.region.map({'hand': '$\\frac{h$', 'leg': '$\\leg$'}))
    found = evaluate(findings, resamples=20)
    for plot in (found.plot_confusion, found.plot_roc, found.plot_precision_recall, found.plot_subgroups):
        plot().figure.canvas.draw()
        plt.close('all')


# 10. and the tables that are refused


def test_columns_twice_are_refused(tmp_path):
    findings = simulated()
    twice = pd.concat([findings, findings[['p_fractured', 'p_not fractured']]], axis=1)
    with pytest.raises(EvaluationError, match='twice'):
        LabelledPredictions(twice)
    twice.to_csv(tmp_path/'findings.csv', index=False)
    with pytest.raises(EvaluationError, match='twice'):
        read_findings(tmp_path)


def test_unusable_findings_are_refused(tmp_path):
    findings = simulated()
    for table, reason in ((findings.assign(label='sprained'), 'does not know'), (findings.assign(label=''), 'no image has both'),
                          (findings.assign(p_fractured=2.5), 'were logits saved'), (findings.drop(columns='label'), 'no column'),
                          (findings.drop(columns='p_fractured'), 'fewer than two')):
        with pytest.raises(EvaluationError, match=reason):
            LabelledPredictions(table)
    with pytest.raises(EvaluationError, match='not readable as findings'):
        read_findings(tmp_path)
    findings.to_csv(tmp_path/'findings.csv', index=False)
    assert evaluate(read_findings(tmp_path), resamples=10)['n'] == 500


def test_temperature_is_undone():
    of = LabelledPredictions(simulated())
    before = undo_temperature(of, 1.7)
    assert np.allclose(undo_temperature(before, 1 / 1.7).y_prob, of.y_prob)
    assert np.allclose(before.images.p_fractured, before.y_prob[:, 1])


def test_tables_and_curves():
    of = LabelledPredictions(simulated())
    assert calibration_table(of).n.sum() == 500
    assert list(calibration_table(of)) == ['low', 'high', 'n', 'predicted', 'observed']
    fpr, tpr = roc_points(of)
    assert np.trapezoid(tpr, fpr) == pytest.approx(skm.roc_auc_score(of.y_true, of.y_prob[:, 1]))
    assert bootstrap_weights(of.groups, 5).shape == (5, 500)
    assert wilson_interval(1., 9)[0] == pytest.approx(.70, abs=.01)
    assert plots.plain_text('$5') == r'\$5'
