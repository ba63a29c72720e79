"Misclassification review: the worklist, decisions, gallery and widget, and as commands with folds and comparison"
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SMALL = ('--arch', 'small_cnn', '--size', 64, '--epochs', 1, '--no-pretrained', '--quiet')


@pytest.fixture
def six(tmp_path):
    "Findings of six phantoms, by paths relative to their folder; (findings, folder)"
    from bonefrac.phantoms import phantom_dataset
    images, _ = phantom_dataset(6, tmp_path/'images')
    p = np.linspace(.1, .9, 6)
    paths = [str(Path(path).relative_to(tmp_path)) for path in images.path]
    return pd.DataFrame({'path': paths, 'label': images.label, 'p_not fractured': 1 - p, 'p_fractured': p, 'in_training': False}), tmp_path


@pytest.mark.parametrize('typed', ['Not Fractured', 'normal', 'not_fractured', '0'])
def test_a_typed_label_is_no_third_class(typed):
    from bonefrac.review import apply_decisions
    images = pd.DataFrame(dict(path=['a', 'b', 'c'], label=['fractured', 'fractured', 'not fractured'], usable=True, issue=''))
    decisions = pd.DataFrame(dict(path=['a'], decision='label wrong', label=typed))
    assert apply_decisions(images, decisions).label.tolist() == ['not fractured', 'fractured', 'not fractured']


def test_a_label_of_another_column_keeps_its_spelling():
    from bonefrac.review import apply_decisions
    images = pd.DataFrame(dict(path=['a', 'b'], region=['Hand', 'Upper Arm'], usable=True, issue=''))
    decisions = pd.DataFrame(dict(path=['a'], decision='label wrong', label='upper arm'))
    assert apply_decisions(images, decisions, 'region').region.tolist() == ['Upper Arm', 'Upper Arm']


def test_image_that_is_not_there_is_no_black_square(six):
    from bonefrac.review import Review
    findings, folder = six
    lost = Review(findings, decisions=folder/'decisions.csv')
    assert 'not shown:' in lost.caption() and lost.image.path in lost.caption() and 'as root' in lost.caption()
    assert len(lost.png()) < 100
    found = Review(findings, decisions=folder/'decisions.csv', root=folder)
    assert 'not shown:' not in found.caption() and len(found.png()) > 10_000


def test_gallery_names_what_cannot_be_opened(six):
    from bonefrac.review import worklist, write_gallery
    findings, folder = six
    write_gallery(worklist(findings), folder/'lost')
    page = (folder/'lost'/'gallery.html').read_text()
    assert page.count('<img') == 0 and "6 images can't be opened" in page and f'{findings.path[0]}: no such file' in page
    write_gallery(worklist(findings), folder/'found', root=folder)
    page = (folder/'found'/'gallery.html').read_text()
    assert page.count('<img') == 6 and 'opened' not in page and 'alt=""' not in page and 'radiograph labelled' in page


def test_review_says_how_good_the_model_is(six):
    from bonefrac.review import Review, worklist, write_gallery
    findings, folder = six
    said = Review(findings, decisions=folder/'d.csv', root=folder).caption()
    assert 'of these 6 labels; its AUROC is' in said
    write_gallery(worklist(findings), folder/'out', root=folder)
    assert 'of these 6 labels; its AUROC is' in (folder/'out'/'gallery.html').read_text()


def test_gallery_warns_of_images_from_the_training_data(six):
    from bonefrac.review import worklist, write_gallery
    findings, folder = six
    write_gallery(worklist(findings.assign(in_training=True)), folder/'out', root=folder)
    assert '6 of these images were in the training data' in (folder/'out'/'gallery.html').read_text()


def test_a_disputed_label_is_called_a_disagreement():
    from bonefrac.review import Review
    n = 40
    p = np.where(np.arange(n) % 2, .95, .05)
    label = np.where(np.arange(n) % 2, 'fractured', 'not fractured')
    label[1] = 'not fractured'
    findings = pd.DataFrame({'path': [f'{i}.png' for i in range(n)], 'label': label, 'p_not fractured': 1 - p, 'p_fractured': p})
    said = Review(findings, decisions='none.csv').caption()
    assert 'model disagrees with the label' in said and 'wrong' not in said


@pytest.fixture(scope='module')
def folds(bonefrac, tmp_path_factory):
    "Findings of two folds over 120 phantoms"
    out = tmp_path_factory.mktemp('runs')/'folds'
    code, said, err = bonefrac('train', 'phantoms:120', '--folds', 2, '--out', out, *SMALL)
    assert code == 0 and said.strip() == str(out/'findings.csv'), err
    return out


def test_every_image_is_held_out_once(folds):
    found = pd.read_csv(folds/'findings.csv', keep_default_na=False)
    assert len(found) == found.path.nunique() == 120 and not found.in_training.astype(str).eq('True').any()
    for fold in (0, 1):
        images = pd.read_csv(folds/f'fold-{fold}'/'images.csv', keep_default_na=False)
        assert images.groupby('group').split.nunique().max() == 1 and set(images.split) == {'train', 'valid', 'test'}


def test_review_reaches_training(bonefrac, folds, tmp_path):
    code, said, err = bonefrac('review', folds/'findings.csv', '--out', tmp_path/'review', '--bundle', folds/'fold-0'/'bundle', '--images', 12)
    assert code == 0 and 'the model disagrees with' in said, err
    page = (tmp_path/'review'/'gallery.html').read_text()
    assert page.count('<img') == 12 and 'src="http' not in page
    work = pd.read_csv(tmp_path/'review'/'worklist.csv', keep_default_na=False)
    found = pd.read_csv(folds/'findings.csv', keep_default_na=False)
    assert len(work) == (found.refused == '').sum() > 110
    wrong, out = work.path[0], work.path[1]
    other = {'fractured': 'not fractured', 'not fractured': 'fractured'}[work.labelled[0]]
    work.loc[0, ['decision', 'label']] = ['label wrong', other]; work.loc[1, 'decision'] = 'exclude'
    work.to_csv(tmp_path/'review'/'worklist.csv', index=False)
    code, _, err = bonefrac('train', 'phantoms:120', '--review', tmp_path/'review'/'worklist.csv', '--out', tmp_path/'run', *SMALL)
    assert code == 0, err
    images = pd.read_csv(tmp_path/'run'/'images.csv', keep_default_na=False).set_index('path')
    assert images.label[wrong] == other and not images.usable[out] and 'review' in images.issue[wrong]
    code, _, err = bonefrac('audit', 'phantoms:120', '--review', tmp_path/'review'/'worklist.csv', '--out', tmp_path/'audit', '--quiet')
    assert code == 0, err
    audited = pd.read_csv(tmp_path/'audit'/'images.csv', keep_default_na=False).set_index('path')
    assert audited.label[wrong] == other and audited.split[out] == ''


def test_unknown_decision_gets_one_line(bonefrac, folds, tmp_path):
    pd.DataFrame(dict(path=['a.png'], decision=['perhaps'])).to_csv(tmp_path/'d.csv', index=False)
    code, _, err = bonefrac('train', 'phantoms:120', '--review', tmp_path/'d.csv', '--out', tmp_path/'run', *SMALL)
    assert code == 2 and err.count('\n') == 1 and 'perhaps' in err and 'label wrong' in err


def test_compare_two_models(bonefrac, folds, tmp_path):
    from bonefrac.evaluation import read_findings
    found = read_findings(folds/'findings.csv')
    truth = (found.label == 'fractured').astype(float)
    better = found.assign(**{'p_fractured': .8 * truth + .1, 'p_not fractured': .9 - .8 * truth})
    better.to_csv(tmp_path/'better.csv', index=False)
    code, said, err = bonefrac('compare', folds/'findings.csv', tmp_path/'better.csv', '--out', tmp_path)
    assert code == 0 and said.startswith(f"{(found.refused == '').sum()} images; right on A only 0"), err
    difference = json.loads((tmp_path/'comparison.json').read_text())['metrics']['auroc']
    assert difference['b'] == 1 and difference['low'] > 0
    code, _, err = bonefrac('compare', folds/'findings.csv', Path(__file__))
    assert code == 2 and err.count('\n') == 1


def test_hard_cases_and_prevalence(bonefrac, folds, images, tmp_path):
    for i, image in enumerate(images): (tmp_path/'hard'/('fractured' if i > 2 else 'normal')).mkdir(parents=True, exist_ok=True); (tmp_path/'hard'/('fractured' if i > 2 else 'normal')/image.name).write_bytes(image.read_bytes())
    code, _, err = bonefrac('evaluate', folds/'fold-0'/'bundle', folds/'fold-0'/'images.csv', '--hard-cases', tmp_path/'hard', '--prevalence', .05, '--out', tmp_path/'eval', '--quiet')
    assert code == 0, err
    page, metrics = (tmp_path/'eval'/'report.html').read_text(), json.loads((tmp_path/'eval'/'metrics.json').read_text())
    assert metrics['hard_cases']['n'] == 6 and 'Hard cases' in page and 'of whom 50 are fractured' in page
    assert 'no multi' not in page and page.count('<tr>') > 60
