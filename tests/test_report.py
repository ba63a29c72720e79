"What the pages may say, and what they must: only what the table and the metrics know"
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bonefrac.evaluation import evaluate
from bonefrac.report import headline, predictions_page, write_audit, write_report

POINTS = dict(threshold=.5, rule_out=.3, rule_in=.7)


def simulated(classes=('not fractured', 'fractured'), n=200, **columns):
    "Findings of a fair model of two classes"
    rng = np.random.default_rng(0)
    positive = np.arange(n) % 2 == 0
    p = 1 / (1 + np.exp(-rng.normal(np.where(positive, 1.5, -1.5), 1.5)))
    return pd.DataFrame({'path': [f'{i}.png' for i in range(n)], 'label': np.where(positive, classes[1], classes[0]),
                         'group': '', 'source': 'simulated', f'p_{classes[0]}': 1 - p, f'p_{classes[1]}': p,
                         'answer': np.where(p > .5, classes[1], classes[0]), 'refused': '', 'in_training': False, **columns})


def report(tmp_path, findings, metrics=None, **options):
    "The page of a report as text"
    metrics = evaluate(findings, 'label', POINTS, 50) if metrics is None else metrics
    return write_report(findings, metrics, tmp_path/'report.html', **options).read_text(encoding='utf-8')


def bundle(tmp_path, classes, answer_names, **config):
    "As much of a bundle as a page needs"
    training = dict(data='images.csv', counts='', recipe={}, split='auto')
    config = dict(operating_points={}, architecture=dict(name='small_cnn'), training=training, metrics={}, temperature=1.) | config
    return SimpleNamespace(name='mine', classes=classes, size=64, answer_names=answer_names, folder=tmp_path/'bundle', config=config)


@pytest.fixture
def predictor(monkeypatch):
    "A predictor that answers with the positive class, in place of onnxruntime"
    class Predictor:
        def __init__(self, bundle): self.bundle = bundle
        def stream(self, paths, evidence): return [record(self.bundle.answer_names[1], self.bundle.classes, path=path) for path in paths]
    monkeypatch.setattr('bonefrac.prediction.Predictor', Predictor)


def record(answer, classes, **columns):
    "A prediction with a map that has one strong location"
    evidence = np.full((len(classes), 8, 8), -3., np.float32)
    evidence[0] = 3
    evidence[:, 2:4, 2:4] = np.arange(len(classes))[:, None, None] * 4
    pixels = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))
    return dict(path='a.png', answer=answer, probability=.9, classes=dict(zip(classes, np.linspace(.1, .9, len(classes)))),
                refused=None, inverted=False, pixels=pixels, evidence=evidence) | columns


@pytest.mark.parametrize('columns, expected, wrong', [
    ({}, 'not audited', 'drawn by groups'),
    (dict(radiograph_id='', split='test'), 'not audited', 'drawn by groups'),
    (dict(radiograph_id=[f'r{i}' for i in range(200)], split='test', published_split='test'), 'this is the published split', 'drawn by groups'),
    (dict(radiograph_id=[f'r{i}' for i in range(200)], split='test', published_split=['test', 'train'] * 100), 'the split was drawn by groups', 'published split'),
    (dict(radiograph_id=[f'r{i}' for i in range(200)], split='test'), 'how the split was drawn is not recorded', 'drawn by groups'),
    (dict(radiograph_id=[f'r{i // 2}' for i in range(200)], split=['test', 'valid'] * 100), '100 radiographs are in more than one split', 'drawn by groups'),
], ids=['no-audit', 'empty-ids', 'published', 'clean', 'unknown', 'torn'])
def test_split_is_read_from_the_table(tmp_path, columns, expected, wrong):
    page = report(tmp_path, simulated(**columns))
    assert expected in page and wrong not in page


def test_split_of_the_training_is_that_of_the_bundle(tmp_path, predictor):
    page = report(tmp_path, simulated(), bundle=bundle(tmp_path, ['not fractured', 'fractured'], ('no fracture', 'fracture')))
    assert 'the split of the data where it held every class' in page and 'by groups, stratified' not in page


def test_headline_counts_what_got_no_answer():
    metrics = evaluate(simulated(), 'label', POINTS, 50)
    share = dict(value=.7, low=.6, high=.8, note='')
    metrics |= dict(n_refused=50, n_unreadable=20, n_rejected=30, with_refusals=dict(coverage=share, sensitivity=share, specificity=share))
    said = headline(metrics)
    assert '50 of 250 images got no answer (coverage 80.0%): 20 unreadable, 30 rejected as no bone radiographs' in said
    assert 'Counted as wrong, they leave a sensitivity of 0.700 (0.600 to 0.800)' in said
    assert 'no answer' not in headline(metrics | dict(n_refused=0))


def test_report_tells_rejected_images_from_unreadable_ones(tmp_path):
    findings = simulated()
    share = dict(value=.7, low=.6, high=.8, note='')
    counts = dict(n_refused=30, n_rejected=30, n_unreadable=0, with_refusals=dict(coverage=share, sensitivity=share, specificity=share))
    page = report(tmp_path, findings, evaluate(findings, 'label', POINTS, 50) | counts)
    assert '30 rejected as no bone radiographs' in page and 'could not be read' not in page and 'unreadable' not in page
    assert page.count('0.700 (0.600 to 0.800)') >= 3


def test_verdict_is_shown(tmp_path):
    findings = simulated()
    metrics = evaluate(findings, 'label', POINTS, 50) | dict(verdict='no better than guessing on these 45 images')
    assert 'Verdict: no better than guessing on these 45 images.' in headline(metrics)
    assert 'class="lead warn">' in report(tmp_path, findings, metrics)


def test_metrics_of_an_earlier_version_still_render(tmp_path):
    findings = simulated()
    metrics = evaluate(findings, 'label', POINTS, 50)
    for key in ('n_unreadable', 'n_rejected', 'coverage', 'with_refusals', 'verdict', 'subgroups', 'worst_subgroup'): metrics.pop(key, None)
    assert 'AUROC' in report(tmp_path, findings, metrics)


def test_metrics_without_confusion_render(tmp_path):
    several = pd.DataFrame({'path': ['a.png', 'b.png'], 'label': ['', ''], 'labels': ['a;b', ''], 'p_a': [.9, .1], 'p_b': [.8, .2], 'answer': ['a;b', '']})
    metrics = dict(n=2, metrics=dict(auroc=dict(value=.7, low=None, high=None, note='')))
    page = report(tmp_path, several, metrics, target='labels')
    assert '0.700' in page and 'Confusion' not in page
    assert headline(metrics) == 'On 2 images: AUROC 0.700.'


def test_words_of_fracture_only_where_classes_are(tmp_path, predictor):
    classes = ['normal', 'abnormal']
    findings = simulated(classes)
    mine = bundle(tmp_path, classes, tuple(classes), operating_points=POINTS)
    page = report(tmp_path, findings, data='two wards', bundle=mine)
    assert 'of whom 500 are abnormal' in page and 'fracture' not in page.lower()
    assert 'alt="radiograph labelled normal, predicted abnormal"' in page
    page = predictions_page([record('abnormal', classes), record('normal', classes), record('doubt', classes)], mine)
    assert 'abnormal from 0.700, normal below 0.300' in page and 'fracture' not in page.lower()


def test_words_of_fracture_where_classes_are(tmp_path):
    assert 'of whom 500 are fractured' in report(tmp_path, simulated())
    detector = bundle(tmp_path, ['not fractured', 'fractured'], ('no fracture', 'fracture'), operating_points=POINTS)
    page = predictions_page([record('fracture', detector.classes)], detector)
    assert 'fracture from 0.700, no fracture below 0.300' in page and 'An image without a visible fracture' in page


def test_dollar_signs_are_no_formulas(tmp_path):
    findings = simulated(['$\\frac{x$', '$\\frac{y$'], region=['$\\frac{a$', '$\\frac{b$'] * 100)
    assert '$\\frac{y$' in report(tmp_path, findings)


def test_markup_in_names_stays_text(tmp_path):
    findings = simulated(path=[f'<script>{i}.png' for i in range(200)])
    page = report(tmp_path, findings, data='<script>alert(1)</script>')
    assert '<script>' not in page and not re.search(r'(src|href)="(https?:)?//', page)


def test_several_findings_an_image_have_a_report(tmp_path):
    rng = np.random.default_rng(0)
    p = rng.random((60, 3))
    labels = [';'.join(name for name, q in zip('abc', row) if q + rng.normal(0, .3) > .5) or 'a' for row in p]
    findings = pd.DataFrame({'path': [f'{i}.png' for i in range(60)], 'labels': labels, **{f'p_{name}': p[:, i] for i, name in enumerate('abc')}})
    page = report(tmp_path, findings, evaluate(findings, 'labels', None, 50), target='labels')
    assert 'A finding is predicted from a probability of 0.500' in page and 'What a threshold would mean' not in page


def test_open_items_of_claim_are_folded(tmp_path):
    page = report(tmp_path, simulated())
    known, folded = page.split('<details><summary>')[0], page.split('<details><summary>')[1]
    assert 'Data sources' in known and 'Funding' not in known and '42. Funding' in folded


def test_several_findings_an_image_have_a_page(tmp_path):
    classes = ['a', 'b', 'c']
    page = predictions_page([record('b;c', classes), record('', classes)], bundle(tmp_path, classes, ('a', 'c'), multi=True))
    assert 'b;c, probability 0.900' in page and 'none of the classes, probability' in page


def test_negative_predictions_have_neither_heat_nor_boxes(tmp_path):
    from bonefrac.explain import evidence_image, record_boxes
    detector = bundle(tmp_path, ['not fractured', 'fractured'], ('no fracture', 'fracture'))
    negative, doubt, positive = (record(answer, detector.classes) for answer in ('no fracture', 'doubt', 'fracture'))
    assert record_boxes(negative, detector) == [] and record_boxes(negative | dict(refused='empty file'), detector) == []
    assert [box.certain for box in record_boxes(doubt, detector)] == [False]
    assert [box.certain for box in record_boxes(positive, detector)] == [True]
    grey = np.repeat(negative['pixels'][..., None], 3, 2)
    assert (evidence_image(negative, detector) == grey).all()
    assert (evidence_image(negative, detector, weak_evidence=True) != grey).any()


def test_every_view_shows_the_same_map(tmp_path):
    "The file, the report's image and the review's are drawn by one function, for the class that `shown_class` names"
    from PIL import Image
    from bonefrac.explain import evidence_image, save_heatmap
    from bonefrac.pages import record_images
    from bonefrac.review import review_image
    detector = bundle(tmp_path, ['not fractured', 'fractured'], ('no fracture', 'fracture'))
    shown = record('fracture', detector.classes) | dict(classes={'not fractured': .6, 'fractured': .4})   # positive, though less likely
    Image.fromarray(shown['pixels']).save(tmp_path/'a.png')
    folder = tmp_path/'heatmaps'
    folder.mkdir()
    expected = evidence_image(shown, detector)
    assert (np.asarray(Image.open(save_heatmap(shown, detector, folder, set()))) == expected).all()
    assert (review_image(tmp_path/'a.png', shown, detector, 64)[:, 64:] == expected).all()
    assert len(record_images(shown, detector, 64, '')) == 2


def test_alternative_texts_say_what_is_seen(tmp_path):
    detector = bundle(tmp_path, ['not fractured', 'fractured'], ('no fracture', 'fracture'))
    page = predictions_page([record('fracture', detector.classes)], detector)
    assert 'alt="radiograph predicted fracture"' in page and 'alt="the same radiograph, with the evidence for fracture marked"' in page
    assert 'alt=""' not in page


def test_audit_page_shows_each_finding(tmp_path):
    "An audit as it will be, made by hand: attributes `unusable` and `copies`"
    from bonefrac.phantoms import phantom_dataset
    images, boxes = phantom_dataset(6, tmp_path/'images', size=64)
    images = images.assign(digest=[f'd{i}' for i in range(6)], radiograph_id=['r0', 'r0', 'r1', 'r2', 'r3', 'r4'], published_split='train',
                           usable=[True] * 5 + [False], issue=[''] * 5 + ['truncated, the file breaks off early'])
    good, a, b = images[images.usable], images.path[0], images.path[1]
    found = SimpleNamespace(
        images=images, boxes=boxes, data='faulty', seconds=1., headline='6 files.', unusable=images[~images.usable],
        copies=pd.DataFrame([dict(radiograph_id='r0', files=2, contents=2, labels='fractured', paths=[a, b])]),
        pairs=pd.DataFrame([dict(path=a, other=b, kind='mirrored', score=.9, angle=0., scale=1., mirrored=True)]),
        leaks=pd.DataFrame([dict(path=b, split='test', label='fractured', kind='mirrored', other=a, other_label='fractured')]),
        conflicts=good.head(2)[['radiograph_id', 'path', 'label', 'split']],
        marks=pd.DataFrame([dict(path=a, label='fractured', hue='red', share=.01)]),
        target='label', shortcuts=dict(auroc=None, note='too few groups in a class', features=pd.DataFrame(columns=['feature', 'alone', 'permutation_importance'])))
    page = write_audit(found, tmp_path/'audit.html').read_text(encoding='utf-8')
    for heading in ('Unusable images', 'Copies', 'Leakage in the published split', 'Contradicting labels', 'Coloured marks', 'Shortcuts', 'Balance', 'The clean split'):
        assert f'>{heading}</h2>' in page
    assert 'truncated, the file breaks off early' in page and 'alt="radiograph test: ' in page and 'alt=""' not in page
    assert 'film' not in page and 'http' not in page.replace('data:image', '')


def test_templates_are_in_the_package():
    from importlib.resources import files
    names = {file.name for file in files('bonefrac').joinpath('templates').iterdir()}
    assert {'base.html', 'macros.html', 'style.css', 'report.html', 'audit.html', 'gallery.html', 'predictions.html'} <= names


def test_report_needs_no_torch():
    code = "import sys, bonefrac.report; print([m for m in ('torch', 'fastai') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'


def test_history_is_drawn_on_given_axes():
    import matplotlib.pyplot as plt
    from bonefrac.report import plot_history
    figure, axes = plt.subplots(1, 2)
    history = [dict(epoch=0, train_loss=.7, valid_loss=.6, auroc=.6, seconds=3.), dict(epoch=1, train_loss=.5, valid_loss=.5, auroc=.8, seconds=3.)]
    assert plot_history(history, axes) is axes
    assert [[line.get_label() for line in ax.get_lines()] for ax in axes] == [['train loss', 'valid loss'], ['auroc']]
    plt.close(figure)
