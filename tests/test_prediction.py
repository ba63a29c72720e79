"What a prediction says, what it refuses, and that one bad file never ends a run"
import hashlib
import json
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FROZEN = json.loads(Path(__file__).with_name('shipped_predictions.json').read_text())


def png(pixels):
    out = BytesIO()
    Image.fromarray(pixels).save(out, 'PNG')
    return out.getvalue()


@pytest.fixture(scope='module')
def pictures():
    "Twelve phantoms and eight pictures that are not radiographs, as drawn when the fixture was made"
    from bonefrac.not_radiographs import NOT_RADIOGRAPHS, not_radiograph
    from bonefrac.phantoms import FRACTURE_TYPES, phantom
    kinds = ['', *FRACTURE_TYPES]
    drawn = [phantom(['hand', 'hip', 'forearm'][i % 3], kinds[i % len(kinds)], 320, seed=i).pixels for i in range(12)]
    drawn += [not_radiograph(kind, 320, 50) for kind in NOT_RADIOGRAPHS]
    digests = [hashlib.sha256(p.tobytes()).hexdigest()[:16] for p in drawn]
    assert digests == FROZEN['pixels'], 'phantoms are drawn differently now: make tests/shipped_predictions.json anew'
    return drawn


@pytest.fixture(scope='module')
def predictor():
    from bonefrac.prediction import Predictor
    return Predictor('fracture')


@pytest.fixture(scope='module')
def phantom_png(pictures):
    return png(pictures[0])


@pytest.mark.parametrize('name', ['fracture', 'fracture-types'])
def test_shipped_bundles_predict_as_they_always_did(pictures, name):
    from bonefrac.ood import grey_statistics
    from bonefrac.prediction import Predictor
    from bonefrac.radiographs import letterbox
    predictor, frozen = Predictor(name), FROZEN[name]
    pixels = np.stack([letterbox(p, predictor.size) for p in pictures])
    logits, _, features = predictor.run(pixels)
    greys = np.stack([grey_statistics(p) for p in pixels])
    np.testing.assert_allclose(predictor.probabilities(logits), frozen['probabilities'], atol=1e-5)
    np.testing.assert_allclose(predictor.ood.ood_score(features, greys), frozen['ood_scores'], rtol=1e-4)
    assert predictor.ood.looks_inverted(greys).tolist() == frozen['looks_inverted']
    files = [(str(i), png(p)) for i, p in enumerate(pictures)]
    checked = list(predictor.stream(files))
    assert [r['refused'] is not None for r in checked] == frozen['refused']
    assert [r['inverted'] for r in checked] == frozen['inverted']
    assert [r['answer'] for r in predictor.without_input_check().stream(files)] == frozen['answers']


# One image, one prediction

def test_predict_gives_one_prediction(predictor, phantom_png):
    prediction = predictor.predict(('hand.png', phantom_png))
    record, = predictor.stream([('hand.png', phantom_png)])
    assert prediction.path == 'hand.png' and prediction.reason == '' and prediction.inverted is False
    assert (prediction.answer, prediction.probability, prediction.classes) == (record['answer'], record['probability'], record['classes'])
    page = prediction._repr_html_()
    assert page.count('data:image/png;base64,') == 2 and 'hand.png' in page and prediction.answer in page
    assert prediction.show().images


def test_a_refused_prediction_says_why(predictor, tmp_path):
    prediction = predictor.predict(tmp_path/'<gone>.png')
    assert prediction.answer == 'refused' and prediction.probability is None and 'no such file' in prediction.reason
    assert '&lt;gone&gt;' in prediction._repr_html_() and 'data:image' not in prediction._repr_html_()
    assert prediction.show().texts


def test_boxes_of_a_prediction(predictor, phantom_png):
    assert isinstance(predictor.predict(('hand.png', phantom_png)).boxes, list)


def test_a_prediction_loads_no_plotting_library(predictor, phantom_png, tmp_path):
    import subprocess
    import sys
    (tmp_path/'hand.png').write_bytes(phantom_png)
    script = (f"import sys; from bonefrac.prediction import Predictor; Predictor('fracture').predict({str(tmp_path/'hand.png')!r}); "
              "print([m for m in ('torch', 'fastai', 'pandas', 'matplotlib', 'sklearn', 'huggingface_hub') if m in sys.modules])")
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stderr


def test_evaluate_uses_the_operating_points_of_the_bundle(predictor, tmp_path):
    from bonefrac.phantoms import phantom_dataset
    images, _ = phantom_dataset(40, tmp_path/'phantoms', size=96, seed=1)
    evaluation = predictor.without_input_check().evaluate(images)
    assert evaluation['threshold'] == predictor.bundle.config['operating_points']['threshold']
    assert evaluation['n'] == 40


# What is refused, and in which words

def test_what_is_not_a_bone_radiograph_is_told_in_the_same_words(predictor, pictures):
    from bonefrac.radiographs import NOT_BONE
    assert NOT_BONE == 'not a bone radiograph'
    colours = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    coloured, page = predictor.stream([('a', png(colours)), ('b', png(pictures[17]))])
    assert coloured['refused'].startswith(NOT_BONE + ': ') and coloured['refused'].endswith('% of the image is in colour')
    assert page['refused'].startswith(NOT_BONE + ': out-of-distribution score ') and page['refused'].endswith(', the limit is 1')
    assert '--' not in coloured['refused'] + page['refused']


def test_a_score_that_is_no_number_is_refused(predictor, phantom_png, monkeypatch):
    from bonefrac.ood import OODDetector
    monkeypatch.setattr(OODDetector, 'ood_score', lambda self, features, greys: np.full(len(features), np.nan))
    record, = predictor.stream([('a', phantom_png)])
    assert record['answer'] == 'refused'


def test_an_inverted_image_is_corrected(predictor, pictures, phantom_png):
    straight, inverted = predictor.stream([('a', phantom_png), ('b', png(255 - pictures[0]))], evidence=True)
    assert (straight['inverted'], inverted['inverted']) == (False, True)
    assert inverted['answer'] == straight['answer'] and abs(inverted['probability'] - straight['probability']) < .02
    assert np.abs(straight['pixels'].astype(int) - inverted['pixels']).mean() < 2


# One bad item never ends a run

def test_any_error_in_decoding_is_that_images_refusal(predictor, phantom_png, monkeypatch):
    import bonefrac.prediction as prediction
    read = prediction.read_letterboxed

    def sometimes(data, size, **options):
        if data == b'odd': raise ValueError('too many values to unpack (expected 2)')
        return read(data, size, **options)
    monkeypatch.setattr(prediction, 'read_letterboxed', sometimes)
    records = list(predictor.stream([('a', phantom_png), ('odd', b'odd'), ('c', phantom_png)]))
    assert [r['answer'] == 'refused' for r in records] == [False, True, False]
    assert 'cannot be read' in records[1]['refused'] and '\n' not in records[1]['refused']


BAD_PATHS = {'a missing file': ('gone.png', 'no such file'), 'an empty folder': ('empty', 'without images'), 'NUL': ('a\0b.png', 'no file can have this name'),
             'an over-long name': ('x' * 300 + '.png', 'cannot be'), 'an over-long path': ('y/' * 2500 + 'a.png', 'cannot be'), 'nothing': ('', 'without images')}


@pytest.mark.parametrize('what', BAD_PATHS)
def test_a_bad_path_is_one_refused_row(predictor, phantom_png, tmp_path, monkeypatch, what):
    from bonefrac.prediction import expand_paths
    monkeypatch.chdir(tmp_path)
    (tmp_path/'empty').mkdir()
    Path('good').mkdir()
    Path('good/good.png').write_bytes(phantom_png)
    bad, why = BAD_PATHS[what]
    if not bad: bad = 'empty'
    paths = expand_paths(['good/good.png', bad, 'good'])
    records = list(predictor.stream(paths))
    assert [r['answer'] == 'refused' for r in records] == [False, True, False]
    assert why in records[1]['refused'] and '\n' not in records[1]['refused']


def test_a_folder_that_cannot_be_opened_is_one_refused_row(predictor, phantom_png, tmp_path, monkeypatch):
    import os
    from bonefrac.prediction import expand_paths
    (tmp_path/'all'/'denied').mkdir(parents=True)
    (tmp_path/'all'/'good.png').write_bytes(phantom_png)
    scandir, denied = os.scandir, str(tmp_path/'all'/'denied')

    def refusing(path='.'):
        if str(path) == denied: raise PermissionError(13, 'Permission denied', denied)
        return scandir(path)
    monkeypatch.setattr(os, 'scandir', refusing)   # whoever tests as root may open every folder
    assert expand_paths([tmp_path/'all']) == [tmp_path/'all'/'good.png', Path(denied)]
    good, bad = predictor.stream(expand_paths([tmp_path/'all']))
    assert good['refused'] is None and 'Permission denied' in bad['refused']


def test_patterns_with_several_wildcards_expand(phantom_png, tmp_path):
    from bonefrac.prediction import expand_paths
    for name in ('a/one/x.png', 'a/two/x.png', 'a/two/y.png', 'a/odd[1].png'):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).write_bytes(phantom_png)
    assert expand_paths([tmp_path/'a'/'*'/'x.png']) == [tmp_path/'a'/'one'/'x.png', tmp_path/'a'/'two'/'x.png']
    assert expand_paths([tmp_path/'a'/'t*']) == [tmp_path/'a'/'two'/'x.png', tmp_path/'a'/'two'/'y.png']
    assert expand_paths([tmp_path/'a'/'odd[1].png']) == [tmp_path/'a'/'odd[1].png']
    assert expand_paths([tmp_path/'b'/'*'/'x.png']) == [tmp_path/'b'/'*'/'x.png']


# The findings table

@pytest.fixture
def table(phantom_png, tmp_path):
    import pandas as pd
    (tmp_path/'a.png').write_bytes(phantom_png)
    (tmp_path/'b.png').write_bytes(b'no image')
    return pd.DataFrame(dict(path=[str(tmp_path/'a.png'), str(tmp_path/'b.png')], label='fractured', patient=['1', '2']))


def test_findings_of_findings_overwrite(predictor, table):
    once = predictor.findings(table, quiet=True)
    twice = predictor.findings(once.assign(p_hairline=.5), quiet=True)
    assert list(twice) == list(once) and twice.columns.is_unique
    assert twice.answer.tolist() == once.answer.tolist() and twice.patient.tolist() == ['1', '2']


def test_findings_hash_images_in_the_decoding_threads(predictor, table, monkeypatch):
    import bonefrac.prediction as prediction
    threads, digest = [], prediction.digest
    monkeypatch.setattr(prediction, 'digest', lambda path: threads.append(threading.current_thread()) or digest(path))
    predictor.findings(table, quiet=True)
    assert len(threads) == 2 and threading.main_thread() not in threads
