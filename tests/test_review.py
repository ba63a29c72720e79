"Folds, review and comparison as commands: what a person decides reaches the next training"
import json
from pathlib import Path

import pandas as pd
import pytest

SMALL = ('--arch', 'small_cnn', '--size', 64, '--epochs', 1, '--no-pretrained', '--quiet')


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
    assert code == 0 and 'labels are probably wrong' in said, err
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
    found = pd.read_csv(folds/'findings.csv', keep_default_na=False)
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
