"Groups, splits and folds"
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonefrac.datasets import DatasetError, images_table
from bonefrac.splits import clean_split, draw_split, ensure_split, label_conflicts

DATA = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))


def labelled(n, root='set', name='study{i}/image1.png', **columns):
    rows = [dict(path=f'{root}/{name.format(i=i)}', label='fractured' if i % 3 == 0 else 'not fractured') for i in range(n)]
    return images_table(pd.DataFrame(rows).assign(**columns))


def findings(n=90):
    "Two of three images with one finding, every third with two"
    names = ('hairline', 'spiral', 'hairline;spiral')
    return images_table([dict(path=f'{i:03d}.png', labels=names[i % 3]) for i in range(n)])


def assert_shares(split, train=.7, valid=.15, test=.15, within=.03):
    share = split.value_counts(normalize=True)
    assert abs(share['train'] - train) < within and abs(share['test'] - test) < within


# Drawing

def test_a_file_name_is_no_group():
    assert_shares(draw_split(labelled(300)).split)


def test_equal_names_in_class_folders_are_not_tied_together():
    images = images_table([dict(path=f'set/{c}/{i}.png', label=c) for c in ('fractured', 'not fractured') for i in range(100)])
    drawn = draw_split(images).assign(name=images.path.map(lambda p: Path(p).name))
    assert drawn.groupby('name').split.nunique().max() > 1


@pytest.mark.parametrize('name', ['study{i}/image1.png', '{i}.png'])
def test_a_moved_dataset_is_split_in_the_same_way(name):
    here, there = labelled(120, 'a', name), labelled(120, '/mnt/disk 2/other', name)
    assert draw_split(here).split.tolist() == draw_split(there).split.tolist()


@pytest.mark.parametrize('column', ['radiograph_id', 'digest'])
def test_one_radiograph_lies_in_one_split(column):
    images = labelled(300).assign(**{column: [f'r{i // 3}' for i in range(300)]})
    drawn = draw_split(images)
    assert drawn.groupby(column).split.nunique().max() == 1
    assert_shares(drawn.split)


def test_a_radiograph_joins_the_groups_that_hold_it():
    images = labelled(40).assign(radiograph_id=[f'r{i // 2}' for i in range(40)])
    images['group'] = ['ann' if i in (1, 2) else '' for i in range(40)]
    assert draw_split(images).split[:4].nunique() == 1


def test_unusable_and_unlabelled_images_are_left_out():
    images = labelled(100)
    images.loc[:4, 'usable'] = False
    images.loc[5:9, 'label'] = ''
    drawn = draw_split(images)
    assert (drawn.split[:10] == '').all() and (drawn.split[10:] != '').all()


def test_an_empty_table_draws_nothing():
    assert draw_split(labelled(20).assign(label='')).split.tolist() == [''] * 20


# Other targets

def test_images_with_several_findings_are_split_too():
    drawn = draw_split(findings(), target='labels')
    assert (drawn.split != '').all()
    assert_shares(drawn.split)
    assert drawn[drawn.split == 'test']['labels'].value_counts().between(3, 6).all()


@pytest.mark.parametrize('draw', [ensure_split, clean_split])
def test_several_findings_in_every_way_to_split(draw, tmp_path):
    images = draw(findings(), target='labels')
    assert (images.split != '').all() and set(images.split) == {'train', 'valid', 'test'}


def test_folds_by_another_target():
    from bonefrac.splits import fold_split
    images = fold_split(findings(), 1, 3, target='labels')
    assert_shares(images.split, .57, .1, .33)
    assert (images[images.split == 'test'].groupby('labels').size() == 10).all()


def test_a_published_split_counts_by_the_target():
    images = findings().assign(split=['test' if i % 9 < 3 else 'train' for i in range(90)])
    kept = ensure_split(images, target='labels')
    assert (kept.split == 'test').tolist() == (images.split == 'test').tolist() and (kept.split == 'valid').any()
    region = labelled(60).assign(label='', region=['hand', 'wrist', 'hip'] * 20)
    assert set(ensure_split(region, target='region').split) == {'train', 'valid', 'test'}


# Tables that cannot be split

def test_no_labels_are_an_error_and_no_recursion():
    with pytest.raises(DatasetError, match="none of 9 images has a value in column 'label'"):
        ensure_split(labelled(9).assign(label=''))
    with pytest.raises(DatasetError, match="no column 'kind'"):
        ensure_split(labelled(9), target='kind')


def test_valid_serves_as_test_where_there_is_none():
    images = labelled(90).assign(split=['valid' if i % 5 < 2 else 'train' for i in range(90)])
    ensured = ensure_split(images)
    assert (ensured.split == 'test').tolist() == (images.split == 'valid').tolist() and (ensured.split == 'valid').any()


def test_few_images_of_a_class():
    from bonefrac.splits import few_images
    images = images_table([dict(path=f'{i}', label='fractured' if i < 12 else 'not fractured') for i in range(15)])
    assert few_images(images) == ('only 3 images of class not fractured; '
                                  'at least 10 of each are needed for a split that means anything')
    assert few_images(images[(images.label == 'fractured') | (images.path == '12')]).startswith('only 1 image of class')
    assert few_images(labelled(60)) == '' and few_images(findings(), 'labels') == ''


def test_classes_that_training_lacks():
    from bonefrac.splits import check_classes
    images = labelled(3).assign(split=['test', 'train', 'valid'])
    with pytest.raises(DatasetError, match=r"fractured \(1 in all\).*'train'.*at least 10 of each"):
        check_classes(images, ['not fractured', 'fractured'], 'label')
    with pytest.raises(DatasetError, match='holds 1 classes'):
        check_classes(images, ['fractured'], 'label')
    check_classes(labelled(60).assign(split=['train', 'valid'] * 30), ['not fractured', 'fractured'], 'label')


def test_groups_that_a_split_tears_apart():
    from bonefrac.splits import check_groups
    with pytest.raises(DatasetError, match="group 'ann' lies in test and train"):
        check_groups(labelled(4).assign(group='ann', split=['train', 'test'] * 2))
    check_groups(labelled(4).assign(group='', split=['train', 'test'] * 2))


# What an audit joins

def test_conflicts_by_target():
    images = labelled(4).assign(radiograph_id=['r', 'r', 's', 's'], region=['hand', 'hand', 'hip', 'leg'])
    images['label'] = ['fractured', 'not fractured', 'fractured', 'fractured']
    assert label_conflicts(images).radiograph_id.tolist() == ['r', 'r']
    assert label_conflicts(images, 'region').region.tolist() == ['hip', 'leg']
    clean = clean_split(images.assign(label='fractured'), target='region')
    assert clean.issue.tolist() == ['', '', 'label conflict', 'label conflict'] and (clean.split[2:] == '').all()


def test_join_groups():
    from bonefrac.splits import join_groups
    table = pd.DataFrame(dict(group=['', '', 'ann', 'ann', 'bob', ''], radiograph_id=['r1', 'r1', 'r2', 'r3', 'r3', 'r4']))
    assert join_groups(table).group.tolist() == ['radiograph-r1', 'radiograph-r1', 'ann', 'ann', 'ann', '']


def test_folds_hold_out_every_image_once():
    from bonefrac.splits import fold_split
    images = labelled(120).assign(radiograph_id=[f'r{i // 2}' for i in range(120)])
    images['label'] = ['fractured' if i // 2 % 2 else 'not fractured' for i in range(120)]
    held = [fold_split(images, fold, 3).split.eq('test') for fold in range(3)]
    assert np.sum(held) == 60   # one of the two copies of each radiograph
    assert images.radiograph_id[np.any(held, axis=0)].is_unique


@pytest.mark.skipif(not (DATA/'fracatlas').is_dir(), reason='BONEFRAC_DATA names no folder with fracatlas')
def test_fracatlas_is_split():
    from bonefrac.datasets import read_dataset
    images = ensure_split(read_dataset(DATA/'fracatlas').images)
    assert_shares(images.split)
    rates = images.groupby('split').label.apply(lambda s: (s == 'fractured').mean())
    assert rates.max() - rates.min() < .02


@pytest.mark.parametrize('folds', [0, 3])
def test_a_table_without_labels_has_a_clean_split_of_nothing(folds):
    clean = clean_split(labelled(12).assign(label='', radiograph_id=[f'r{i}' for i in range(12)]), folds=folds)
    assert clean.split.tolist() == [''] * 12 and clean.path.notna().all()
    assert not folds or clean.fold.tolist() == [-1] * 12
