"One positive class everywhere: in the table, the configuration, the card, the page, the report, JSON and CSV"
import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

# As a user spells them: (negative, positive), whether the positive class is a fracture, --positive where the names do not say
PAIRS = [
    ('normal', 'fractured', True, None), ('Normal', 'Fracture', True, None), ('0', '1', True, None), ('no', 'yes', True, None),
    ('Not Fractured', 'Fractured', True, None), ('non-fractured', 'broken', True, None), ('negative', 'positive', True, None),
    ('intact', 'fractures', True, None), ('normal', 'abnormal', False, None), ('normal', 'displaced', False, None),
    ('healthy', 'hairline', False, None), ('Ohne Befund', 'Brüche', False, 'Brüche')]
names = [f'{negative}-{positive}' for negative, positive, *_ in PAIRS]


def image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40), np.uint8)).save(path)
    return path


def as_folders(root, pair):
    for i in range(8): image(root/pair[i % 2]/f'{i}.png', i)
    return root


def as_csv(root, pair):
    rows = [(image(root/f'{i}.png', i).name, pair[i % 2]) for i in range(8)]
    pd.DataFrame(rows, columns=['path', 'label']).to_csv(root/'images.csv', index=False)
    return root/'images.csv'


def as_roboflow(root, pair):
    for i in range(8): image(root/'train'/f'{i}.png', i)
    marks = pd.DataFrame({'filename': [f'{i}.png' for i in range(8)], **{name: [int(i % 2 == k) for i in range(8)] for k, name in enumerate(pair)}})
    marks.to_csv(root/'train'/'_classes.csv', index=False)
    return root


@pytest.mark.parametrize('layout', [as_folders, as_csv, as_roboflow])
@pytest.mark.parametrize('negative, positive, fracture, asked', PAIRS, ids=names)
def test_every_layout_puts_the_negative_class_first(tmp_path, layout, negative, positive, fracture, asked):
    from bonefrac.datasets import class_names, read_dataset
    images = read_dataset(layout(tmp_path/'data', (negative, positive)), positive=asked).images
    images = images.sort_values('path')
    first, second = class_names(images.label, asked)
    odd = images.path.str.extract(r'(\d+)\.png')[0].astype(int) % 2 == 1
    assert set(images.label[odd]) == {second} and set(images.label[~odd]) == {first}
    assert ([first, second] == ['not fractured', 'fractured']) == fracture


def test_unknown_names_are_asked_for_in_one_line(bonefrac, tmp_path):
    table = as_csv(tmp_path/'data', ('Ohne Befund', 'Brüche'))
    code, out, err = bonefrac('train', table, '--out', tmp_path/'run', '--arch', 'small_cnn', '--no-pretrained', '--size', 32)
    assert code == 2 and out == '' and 'Traceback' not in err
    line, = [line for line in err.splitlines() if line.startswith('bonefrac: ')]
    assert '--positive' in line and 'brüche' in line.lower() and 'ohne befund' in line.lower()


@pytest.fixture(scope='module')
def answers(demo, images, tmp_path_factory):
    "Of a bundle whose classes are called otherwise: its configuration, card and folder"
    def renamed(classes, display=None):
        from bonefrac.bundle import load_bundle, write_bundle
        from bonefrac.card import model_card
        bundle = load_bundle(demo/'bundle')
        config = {k: v for k, v in bundle.config.items() if k not in ('schema', 'files')} | dict(classes=classes)
        if display: config['display_names'] = display
        files = {f: bundle.folder/f for f in bundle.config['files']} | {'README.md': model_card(config)}
        return write_bundle(tmp_path_factory.mktemp('renamed')/'bundle', config, files)
    return renamed


@pytest.mark.parametrize('negative, positive, fracture, asked', PAIRS, ids=names)
def test_card_page_report_json_and_csv_agree(answers, images, bonefrac, tmp_path, negative, positive, fracture, asked):
    from bonefrac.app import answer_html
    from bonefrac.datasets import class_names, read_dataset
    from bonefrac.evaluation import evaluate
    from bonefrac.prediction import Predictor
    from bonefrac.report import write_report
    found = class_names(read_dataset(as_csv(tmp_path/'data', (negative, positive)), positive=asked).images.label, asked)
    bundle = answers(list(found))
    p = lambda out: [json.loads(line) for line in out.splitlines()]
    records = p(bonefrac('predict', *images, '--bundle', bundle.folder, '--format', 'json')[1])
    rows = list(csv.DictReader(io.StringIO(bonefrac('predict', *images, '--bundle', bundle.folder, '--format', 'csv')[1])))
    words = bundle.answer_names
    assert words == ('no fracture', 'fracture') if fracture else words[1] == found[1] != 'fractured'
    predictor, points = Predictor(bundle), bundle.config['operating_points']
    assert predictor.answer(np.array([.0, 1.]))[0] == words[1] and predictor.answer(np.array([1., .0]))[0] == words[0]
    for record, row in zip(records, rows, strict=True):
        assert record['probability'] == record['classes'][found[1]] == float(row[f'p_{found[1]}'])
        assert record['answer'] in (*words, 'doubt') and (record['answer'] == words[1]) == (record['probability'] >= points['rule_in'])
    findings = pd.DataFrame(dict(path=[r['path'] for r in records], label=[found[i % 2] for i in range(len(records))], refused='', group='',
                                 **{f'p_{c}': [r['classes'][c] for r in records] for c in found}))
    metrics = evaluate(findings, 'label', points, resamples=50)
    write_report(findings, metrics, tmp_path/'report.html', bundle)
    texts = dict(card=(bundle.folder/'README.md').read_text(), page=answer_html(dict(answer=words[1], probability=.99, refused=None), bundle),
                 report=(tmp_path/'report.html').read_text())
    assert words[1] in texts['card'] and words[1] in texts['page'] and found[1] in texts['report']
    if not fracture:   # nothing says "fracture" of a class that is none; the frame of card and report is about the library
        answers_of_card = texts['card'].split('## Answers')[1].split('\n## ')[0]
        assert '`fracture`' not in answers_of_card and '> fracture<' not in texts['page'] and ', fracture from' not in texts['page']
