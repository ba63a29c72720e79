"Readers: labels, tables, layouts"
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bonefrac.datasets import DatasetError, canonical_label, class_names, read_dataset, read_images_csv

DATA = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))


def needs(name):
    return pytest.mark.skipif(not (DATA/name).is_dir(), reason=f'BONEFRAC_DATA names no folder with {name}')


def write_images(folder, *names):
    for i, name in enumerate(names):
        path = folder/name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32), i * 9 % 255, np.uint8)).save(path)
    return folder


def write_csv(folder, text, name='images.csv', encoding='utf-8'):
    folder.mkdir(parents=True, exist_ok=True)
    (folder/name).write_bytes(text.encode(encoding))
    return folder/name


def labels_of(tmp_path, *labels):
    "What read_images_csv makes of a column of labels, in their order"
    write_images(tmp_path, *(f'{i:02d}.png' for i in range(len(labels))))
    rows = '\n'.join(f'{i:02d}.png,{label}' for i, label in enumerate(labels))
    return read_images_csv(write_csv(tmp_path, 'path,label\n' + rows))


# Labels

@pytest.mark.parametrize('written, canonical', [
    (('Fracture', 'Normal'), ('fractured', 'not fractured')),
    (('fractured', 'normal'), ('fractured', 'not fractured')),
    (('1', '0'), ('fractured', 'not fractured')),
    (('1.0', '0.0'), ('fractured', 'not fractured')),
    (('Yes', 'No'), ('fractured', 'not fractured')),
    (('TRUE', 'false'), ('fractured', 'not fractured')),
    (('broken', 'intact'), ('fractured', 'not fractured')),
    (('positive', 'negative'), ('fractured', 'not fractured')),
    (('Fractures', 'unfractured'), ('fractured', 'not fractured')),
    (('fracture', 'without_fracture'), ('fractured', 'not fractured')),
    (('abnormal', 'Normal'), ('abnormal', 'normal')),
    (('displaced', 'normal'), ('displaced', 'not fractured')),
    (('Hairline Fracture', 'healthy'), ('hairline', 'not fractured')),
    (('0', '1', '2'), ('0', '1', '2')),
    (('Brüche', 'Ohne Befund'), ('brüche', 'ohne befund')),
])
def test_labels_of_a_csv_are_spelt_as_those_of_folders(tmp_path, written, canonical):
    assert labels_of(tmp_path, *written).label.tolist() == list(canonical)
    folder = write_images(tmp_path/'folders', *(f'{name}/{i}{j}.png' for i, name in enumerate(written) for j in '12'))
    images = read_dataset(folder).images
    assert set(images.label) == set(canonical)


def test_one_letter_written_in_two_ways_is_one_class(tmp_path):
    two = [unicodedata.normalize(form, 'Brüche') for form in ('NFC', 'NFD')]
    assert set(labels_of(tmp_path, *two).label) == {'brüche'}
    assert canonical_label('हड्डी टूटी') == 'हड्डी टूटी'   # combining vowel signs are part of the word


@pytest.mark.parametrize('pair, order', [
    (('fractured', 'not fractured'), ['not fractured', 'fractured']),
    (('Fracture', 'Normal'), ['Normal', 'Fracture']),
    (('abnormal', 'normal'), ['normal', 'abnormal']),
    (('displaced', 'not fractured'), ['not fractured', 'displaced']),
    (('hairline', 'not fractured'), ['not fractured', 'hairline']),
    (('fractured', 'suspicious'), ['suspicious', 'fractured']),
    (('zebra', 'not fractured', 'hairline'), ['not fractured', 'hairline', 'zebra']),
])
def test_the_negative_class_comes_first(pair, order):
    assert class_names(pair) == class_names(pair[::-1]) == order


@pytest.mark.parametrize('pair', [('brüche', 'ohne befund'), ('a', 'b')])
def test_of_two_unknown_classes_the_user_names_the_positive_one(pair):
    with pytest.raises(DatasetError, match='--positive NAME') as e:
        class_names(pair)
    assert all(name in str(e.value) for name in pair) and '\n' not in str(e.value)
    assert class_names(pair, positive=pair[0].upper()) == [pair[1], pair[0]]
    with pytest.raises(DatasetError, match='no class'):
        class_names(pair, positive='c')


def test_missing_labels_are_no_classes_and_are_counted(tmp_path):
    images = labels_of(tmp_path, 'fractured', 'nan', 'NA', 'N/A', 'none', 'null', '', 'normal')
    assert images.label.tolist() == ['fractured', *[''] * 6, 'not fractured']
    assert read_dataset(tmp_path/'images.csv').summary()['unlabelled'] == 6


def test_the_label_as_written_is_kept_where_it_says_more(tmp_path):
    images = labels_of(tmp_path, 'Fractured', 'HEALTHY', 'not_fractured', 'normal')
    assert images.label_as_written.tolist() == ['', 'HEALTHY', '', 'normal']
    assert 'label_as_written' not in labels_of(tmp_path/'same', 'fractured', 'Not_fractured')


# Tables

@pytest.mark.parametrize('header', [
    'path,label', 'image,label', 'filename,class', 'file,target', 'image_id,diagnosis', 'Image Path,Fracture',
    'file_name,category', 'Image,fractured',
])
def test_columns_by_their_usual_names(tmp_path, header):
    write_images(tmp_path, 'a.png', 'b.png')
    images = read_images_csv(write_csv(tmp_path, f'{header}\na.png,yes\nb.png,no\n'))
    assert [Path(p).name for p in images.path] == ['a.png', 'b.png']
    assert images.label.tolist() == ['fractured', 'not fractured']


def test_path_and_label_win_over_their_synonyms(tmp_path):
    write_images(tmp_path, 'a.png')
    images = read_images_csv(write_csv(tmp_path, 'image,path,class,label\nx,a.png,7,fractured\n'))
    assert Path(images.path[0]).name == 'a.png' and images.label[0] == 'fractured' and images['image'][0] == 'x'


@pytest.mark.parametrize('separator', [';', '\t'])
def test_tables_as_spreadsheets_write_them(tmp_path, separator):
    write_images(tmp_path, 'bilder/größe 1.png')
    text = separator.join(('path', 'label')) + '\r\n' + separator.join(('bilder\\größe 1.png', 'Fracture')) + '\r\n'
    images = read_images_csv(write_csv(tmp_path, text, encoding='utf-8-sig'))
    assert images.label.tolist() == ['fractured'] and Path(images.path[0]).is_file()


def test_a_path_that_stands_twice_is_kept_once(tmp_path):
    write_images(tmp_path, 'a.png', 'b.png')
    text = 'path,label,split\na.png,Fracture,test\n./a.png,fractured,train\nb.png,normal,test\n'
    images = read_images_csv(write_csv(tmp_path, text))
    assert len(images) == 2 and images.usable.all() and 'listed 2 times' in images.issue[0]
    assert images.split.tolist() == ['train', 'test']


def test_a_path_under_two_labels_is_left_out_as_a_conflict(tmp_path):
    write_images(tmp_path, 'a.png', 'b.png')
    images = read_images_csv(write_csv(tmp_path, 'path,label\na.png,Fracture\na.png,Normal\nb.png,normal\n'))
    assert images.usable.tolist() == [False, True]
    assert images.issue[0] == "labelled both 'fractured' and 'not fractured'"


def test_none_of_the_files_exists(tmp_path):
    with pytest.raises(DatasetError, match='0 of 2 files exist, e.g. .*looked relative to') as e:
        read_images_csv(write_csv(tmp_path, 'path,label\nx/a.png,1\nx/b.png,0\n'))
    assert str(tmp_path) in str(e.value) and '\n' not in str(e.value)


def test_files_that_are_missing_stay_as_rows(tmp_path):
    write_images(tmp_path, 'a.png')
    assert len(read_images_csv(write_csv(tmp_path, 'path,label\na.png,1\ngone.png,0\n'))) == 2


def test_paths_are_relative_to_the_csv_even_where_nothing_lies_there(tmp_path, monkeypatch):
    write_images(tmp_path/'elsewhere', 'a.png', 'b.png')
    table = write_csv(write_images(tmp_path/'here', 'a.png'), 'path,label\na.png,1\nb.png,0\n')
    monkeypatch.chdir(tmp_path/'elsewhere')
    assert read_images_csv(table).path.tolist() == [str(tmp_path/'here'/name) for name in ('a.png', 'b.png')]


def test_a_saved_table_reads_the_same_from_another_folder(tmp_path, monkeypatch):
    from bonefrac.datasets import images_table, save_images_csv
    write_images(tmp_path/'data', 'a.png')
    monkeypatch.chdir(tmp_path)
    save_images_csv(images_table([dict(path='data/a.png', label='fractured')]), 'runs/audit/images.csv')
    assert pd.read_csv('runs/audit/images.csv').path[0] == '../../data/a.png'
    monkeypatch.chdir(tmp_path/'data')
    assert Path(read_images_csv('../runs/audit/images.csv').path[0]).resolve() == tmp_path/'data'/'a.png'


def test_a_table_in_a_linked_folder(tmp_path):
    from bonefrac.datasets import images_table, save_images_csv
    write_images(tmp_path/'data', 'a.png')
    (tmp_path/'far'/'away').mkdir(parents=True)
    (tmp_path/'run').symlink_to(tmp_path/'far'/'away')
    save_images_csv(images_table([dict(path=str(tmp_path/'data'/'a.png'))]), tmp_path/'run'/'images.csv')
    for folder in ('run', 'far/away'):
        assert Path(read_images_csv(tmp_path/folder/'images.csv').path[0]).is_file()


def test_digests_of_digits_stay_text(tmp_path):
    write_images(tmp_path, 'a.png')
    images = read_images_csv(write_csv(tmp_path, 'path,radiograph_id,digest\na.png,0012,0012345678901234\n'))
    assert images.radiograph_id[0] == '0012' and images.digest[0] == '0012345678901234'


# Layouts

def test_classes_that_lie_deeper(tmp_path):
    write_images(tmp_path, 'ward 1/2024/fracture/x.png', 'ward 1/2023/fracture/x.png', 'ward 2/normal/y.png')
    images = read_dataset(tmp_path).images
    assert images.label.tolist() == ['fractured', 'fractured', 'not fractured']


def test_patients_below_classes_are_no_classes(tmp_path):
    write_images(tmp_path, *(f'train/{c}/patient{i}/view{j}.png' for c in ('hairline', 'normal') for i in '123' for j in '12'))
    images = read_dataset(tmp_path).images
    assert set(images.label) == {'hairline', 'not fractured'} and set(images.split) == {'train'}


def test_unknown_classes_that_recur_in_every_ward(tmp_path):
    write_images(tmp_path, *(f'ward {w}/{c}/{i}.png' for w in '12' for c in ('brüche', 'ohne befund') for i in '12'))
    assert set(read_dataset(tmp_path).images.label) == {'brüche', 'ohne befund'}


@pytest.mark.parametrize('names', [
    ['a.png', 'b.png'], ['fracture/a.png', 'fracture/b.png'], ['ward 1/p1/a.png', 'ward 1/p2/b.png', 'ward 2/p3/c.png'],
    ['train/a.png', 'test/b.png'],
])
def test_folders_without_labels(tmp_path, names):
    from bonefrac.datasets import read_images
    write_images(tmp_path, *names)
    with pytest.raises(DatasetError, match=f'no labels found in {len(names)} images; looked for') as e:
        read_dataset(tmp_path)
    assert '\n' not in str(e.value)
    found = read_images(tmp_path)
    assert found.images.label.tolist() == [''] * len(names)
    assert found.summary()['unlabelled'] == len(names)


def test_an_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match='no images'):
        read_dataset(tmp_path)


def test_annotations_by_split_with_names_that_recur(tmp_path):
    for split, label in (('train', 'Fracture'), ('test', 'Normal')):
        write_images(tmp_path/split/'images', '1.png', '2.png')
        write_csv(tmp_path/split, f'filename,label\n1.png,{label}\n2.png,{label}\n', 'annotations.csv')
    images = read_dataset(tmp_path).images
    assert sorted(zip(images.split, images.label)) == [('test', 'not fractured')] * 2 + [('train', 'fractured')] * 2


def yolo(folder, names="['fracture', 'normal', 'text']", extra=''):
    write_images(folder, *(f'{s}/images/{i}.png' for s in ('train', 'valid') for i in range(4)))
    (folder/'data.yaml').write_text(f'train: ../train/images\nnames: {names}\n{extra}')
    for split in ('train', 'valid'):
        labels = folder/split/'labels'
        labels.mkdir()
        (labels/'0.txt').write_text('0 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.4 0.1 0.4 0.3\n2 0.9 0.9 0.1 0.1\n')
        (labels/'1.txt').write_text('1 0.5 0.5 1 1\n')
        (labels/'2.txt').write_text('\n')
    return folder


def test_yolo(tmp_path):
    found = read_dataset(yolo(tmp_path))
    assert found.layout == 'YOLO export'
    assert found.images.label.tolist() == ['fractured', 'not fractured', '', ''] * 2
    assert found.images.split.tolist() == ['train'] * 4 + ['valid'] * 4
    assert len(found.boxes) == 4 and set(found.boxes.path) <= set(found.images.path)
    assert np.allclose(found.boxes[['x', 'y', 'w', 'h']][:2], [[.4, .3, .2, .4], [.1, .1, .3, .2]])
    assert json.loads(found.boxes.polygon[1]) == [[.1, .1, .4, .1, .4, .3]] and found.boxes.polygon[0] == ''


def test_yolo_where_empty_is_normal(tmp_path):
    for data in (read_dataset(yolo(tmp_path/'a'), normal_if_empty=True),
                 read_dataset(yolo(tmp_path/'b', "{0: fracture, 1: normal, 2: text}", 'normal_if_empty: true'))):
        assert data.images.label.tolist() == ['fractured', *['not fractured'] * 3] * 2


@pytest.mark.parametrize('line', ['7 .5 .5 .1 .1', '0 .5 .5', 'fracture .5 .5 .1 .1'])
def test_yolo_lines_that_are_no_boxes(tmp_path, line):
    yolo(tmp_path)
    (tmp_path/'train'/'labels'/'3.txt').write_text(line)
    with pytest.raises(DatasetError, match='3.txt, line 1'):
        read_dataset(tmp_path)


def test_coco_images_without_a_box_are_unlabelled(tmp_path):
    write_images(tmp_path/'train', 'a.png', 'b.png')
    coco = dict(
        images=[dict(id=i, file_name=f'{n}.png', width=100, height=50) for i, n in enumerate('ab')],
        categories=[dict(id=1, name='Spiral fracture')],
        annotations=[dict(image_id=0, category_id=1, bbox=[10, 10, 20, 20], segmentation=[[10, 10, 30, 10, 30, 30]])],
    )
    (tmp_path/'train'/'_annotations.coco.json').write_text(json.dumps(coco))
    found = read_dataset(tmp_path)
    assert found.images.label.tolist() == ['fractured', ''] and found.images['labels'].tolist() == ['spiral', '']
    assert found.boxes.iloc[0].tolist()[1:5] == [.1, .2, .2, .4]
    assert json.loads(found.boxes.polygon[0]) == [[.1, .2, .3, .2, .3, .6]]
    assert read_dataset(tmp_path, normal_if_empty=True).images.label.tolist() == ['fractured', 'not fractured']


def test_mura_keeps_its_names(tmp_path):
    write_images(tmp_path, *(f'train/XR_WRIST/patient0000{i}/study1_{sign}/image1.png'
                             for i, sign in enumerate(('positive', 'negative'))))
    images = read_dataset(tmp_path).images
    assert images.label.tolist() == ['abnormal', 'normal'] and class_names(images.label) == ['normal', 'abnormal']


def test_boxes_with_outlines_survive_a_csv(tmp_path):
    from bonefrac.datasets import save_images_csv
    found = read_dataset(yolo(tmp_path/'set'))
    save_images_csv(found.images, tmp_path/'run'/'images.csv')
    save_images_csv(found.boxes, tmp_path/'run'/'boxes.csv')
    again = read_dataset(tmp_path/'run'/'images.csv')
    assert set(again.boxes.path) <= set(again.images.path)
    assert again.boxes.polygon.tolist() == found.boxes.polygon.tolist()


def test_a_positive_class_that_does_not_occur(tmp_path):
    labels_of(tmp_path, 'a', 'b')
    assert len(read_dataset(tmp_path/'images.csv', positive='A').images) == 2
    with pytest.raises(DatasetError, match='no class'):
        read_dataset(tmp_path/'images.csv', positive='c')


def test_phantoms_and_tables():
    from bonefrac.datasets import Dataset
    with pytest.raises(DatasetError, match='phantoms:600'):
        read_dataset('phantoms:many')
    found = read_dataset(pd.DataFrame([dict(path='a.png', label='Fracture'), dict(path='b.png', label='Normal')]))
    assert found.images.label.tolist() == ['fractured', 'not fractured']
    assert isinstance(found, Dataset) and read_dataset(found) is found


# Real sets

@needs('sciresearch')
def test_sciresearch():
    found = read_dataset(DATA/'sciresearch')
    assert (len(found.images), len(found.boxes)) == (1089, 1405)
    assert found.images.label.value_counts().to_dict() == {'fractured': 1040, '': 49}
    assert found.images.split.value_counts().to_dict() == {'train': 961, 'valid': 84, 'test': 44}
    assert set(found.images.source) == {'sciresearch'} and (found.images.group != '').all()
    assert found.images.group.nunique() < 800
    named = {name for names in found.images['labels'] for name in names.split(';')} - {''}
    assert named == {'angle', 'fractured', 'line', 'messed up angle'}


@needs('fracatlas')
def test_fracatlas_has_outlines():
    boxes = read_dataset(DATA/'fracatlas').boxes
    assert (boxes.polygon != '').all()
    ring = np.array(json.loads(boxes.polygon[0])[0]).reshape(-1, 2)
    box = boxes.iloc[0]
    assert np.allclose([*ring.min(0), *ring.max(0)], [box.x, box.y, box.x + box.w, box.y + box.h], atol=.01)
