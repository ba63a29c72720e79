"What a bundle remembers, what it is found by, in which words it answers, and that export leaves the learner alone"
import json
import re
import shutil
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def rewritten(shipped, folder, **changes):
    "A shipped bundle with another configuration"
    from bonefrac.bundle import find_bundle, write_bundle
    from bonefrac.card import model_card
    bundle = find_bundle(shipped)
    config = {k: v for k, v in bundle.config.items() if k not in ('schema', 'files', 'evaluation')} | changes
    files = {f: bundle.folder/f for f in bundle.config['files']}
    return write_bundle(folder, config, files | {'README.md': model_card(config)})


# Words of fracture only where the positive class is fracture

PAIRS = {('not fractured', 'fractured'): ('no fracture', 'fracture'), ('normal', 'abnormal'): ('normal', 'abnormal'),
         ('not fractured', 'hairline'): ('not fractured', 'hairline'), ('ohne befund', 'brüche'): ('ohne Befund', 'Brüche')}


@pytest.mark.parametrize('classes', PAIRS)
def test_config_card_and_records_have_one_positive_class(tmp_path, classes):
    from bonefrac.phantoms import phantom
    from bonefrac.prediction import Predictor
    negative, positive = PAIRS[classes]
    shown = {'ohne befund': 'ohne Befund', 'brüche': 'Brüche'} if 'brüche' in classes else {}
    bundle = rewritten('fracture', tmp_path/'bundle', name='pair', classes=list(classes), display_names=shown)
    assert bundle.answer_names == (negative, positive)
    points, card = bundle.config['operating_points'], (bundle.folder/'README.md').read_text()
    assert f"Below {points['rule_out']:.3f} the answer is `{negative}`, from {points['rule_in']:.3f} on it is `{positive}`" in card
    if 'fractured' not in classes: assert 'fracture"' not in card and '`fracture`' not in card and 'no fracture' not in card
    if not any('fracture' in c for c in classes): assert 'fracture' not in card.split('## Training')[0] + card.split('## Limits')[1]
    predictor = Predictor(bundle, check_input=False)
    for p, answer in ((0, negative), (points['rule_in'], positive), (1, positive), (points['rule_out'], 'doubt')):
        assert predictor.answer(np.array([1 - p, p]))[0] == answer
    Image.fromarray(phantom('hand', 'oblique', 320, seed=1).pixels).save(out := BytesIO(), 'PNG')
    record, = predictor.stream([('a', out.getvalue())])
    record = json.loads(json.dumps(record))
    assert list(record['classes']) == list(classes) and record['probability'] == record['classes'][classes[1]]


def test_display_names_reach_answers_of_many_classes(tmp_path):
    from bonefrac.prediction import Predictor
    bundle = rewritten('fracture-types', tmp_path/'bundle', display_names={'hairline': 'Haarriss'})
    assert bundle.display('hairline') == 'Haarriss' and bundle.display('spiral') == 'spiral'
    assert Predictor(bundle).answer(np.eye(10)[bundle.classes.index('hairline')])[0] == 'Haarriss'
    assert 'Haarriss' in (bundle.folder/'README.md').read_text()


# A plain name is a shipped bundle

def test_a_plain_name_is_a_shipped_bundle(tmp_path, monkeypatch):
    from bonefrac.bundle import BundleError, find_bundle, shipped_bundles
    monkeypatch.chdir(tmp_path)
    Path('fracture').mkdir()   # a folder of images, say
    assert find_bundle('fracture').folder == shipped_bundles()['fracture']
    shutil.copytree(shipped_bundles()['fracture'], 'mine')
    for path in ('./mine', Path('mine'), str(tmp_path/'mine'), tmp_path/'mine'): assert find_bundle(path).name == 'fracture'
    with pytest.raises(BundleError, match=re.escape('give ./mine')): find_bundle('mine')
    with pytest.raises(BundleError, match='no bundle there'): find_bundle('./fracture')
    with pytest.raises(BundleError, match='no bundle there.*fracture-types'): find_bundle('nobody')
    with pytest.raises(BundleError, match='no bundle there'): find_bundle(r'runs\nobody')
    with pytest.raises(BundleError, match='no bundle there'): find_bundle(r'.\fracture')


def test_finding_a_bundle_loads_no_hub_client():
    import subprocess
    import sys
    done = subprocess.run([sys.executable, '-c', "import sys; from bonefrac.bundle import find_bundle; find_bundle(); print([m for m in ('bonefrac.hub', 'bonefrac.card', 'huggingface_hub', 'torch', 'jinja2') if m in sys.modules])"], capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stderr


# Configurations that would be silently wrong

WRONG = {'a temperature without end': (dict(temperature=float('inf')), 'temperature'), 'a temperature of true': (dict(temperature=True), 'temperature'),
         'a temperature next to 0': (dict(temperature=1e-320), 'temperature'), 'a huge temperature': (dict(temperature=10 ** 400), 'temperature'),
         'points reversed': (dict(operating_points=dict(threshold=.5, rule_out=.9, rule_in=.1)), 'operating_points'),
         'no rule-out': (dict(operating_points=dict(threshold=.5)), 'operating_points'), 'points of words': (dict(operating_points=dict(threshold='a', rule_out='b', rule_in='c')), 'operating_points'),
         'points over 1': (dict(operating_points=dict(threshold=.5, rule_out=.1, rule_in=2)), 'operating_points'),
         'points that are no number': (dict(operating_points=dict(threshold=.5, rule_out=float('nan'), rule_in=.9)), 'operating_points'),
         'points beside multi': (dict(multi=True), 'operating_points'), 'classes twice': (dict(classes=['a', 'a']), 'classes'),
         'an evaluation that is none': (dict(evaluation=[1]), 'evaluation'), 'display names of no class': (dict(display_names={'x': 'y'}), 'display_names')}


@pytest.mark.parametrize('what', WRONG)
def test_a_wrong_configuration_is_refused(what):
    from bonefrac.bundle import BundleError, check_config, find_bundle
    changes, why = WRONG[what]
    with pytest.raises(BundleError, match=why) as e: check_config({**find_bundle().config, **changes})
    assert '\n' not in str(e.value)


def test_a_configuration_without_end_is_refused(tmp_path):
    from bonefrac.bundle import BundleError, load_bundle
    (tmp_path/'config.json').write_text('[' * 200_000 + ']' * 200_000)
    with pytest.raises(BundleError, match='not valid JSON'): load_bundle(tmp_path)


# Bundles of version 0.1

def as_version_0_1(source, folder):
    "A bundle written as version 0.1 wrote it: older names of files, keys, tensors and of the model's input"
    import hashlib
    import onnx
    from safetensors.numpy import load_file, save_file
    shutil.copytree(source, folder)
    config = json.loads((folder/'config.json').read_text())
    (folder/'training_images.txt').rename(folder/'training_films.txt')
    tensors = load_file(folder/'ood.safetensors')
    save_file({{'direction': 'foreign', 'inversion': 'turned'}.get(k, k): v for k, v in tensors.items()}, folder/'gate.safetensors')
    (folder/'ood.safetensors').unlink()
    model = onnx.load(folder/'model.onnx')
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == 'image': node.input[i] = 'film'
    model.graph.input[0].name = 'film'
    onnx.save(model, folder/'model.onnx')

    def renamed(data, **names): return {names.get(k, k): v for k, v in data.items()}
    config['architecture'] = renamed(config['architecture'], lse_r='sharpness', positive_only='one_sided')
    config['operating_points'] = renamed(config['operating_points'], images='films')
    config['training']['recipe'] = renamed(config['training']['recipe'], class_weighted_loss='weigh_classes', balanced_sampling='balanced',
                                           ema_decay='average', p_rot90='quarter_turns', full_image_epochs='whole_epochs')
    config['training']['recipe']['weights'] = 'auto' if config['training']['recipe'].pop('pretrained') else 'none'
    config['training']['counts'] = config['training']['counts'].replace(' images', ' films')
    config['evaluation'] = renamed(config['evaluation'], n_in_training='n_seen', metrics_at_operating_points='at_points', selective_metrics='three_way')
    if config['evaluation']['three_way']: config['evaluation']['three_way'] = renamed(config['evaluation']['three_way'], coverage='decided', errors_deferred='caught')
    config = renamed(config, ood='gate') | dict(schema=1)
    config['gate'] = renamed(config['gate'], images='films')
    config['files'] = {f: hashlib.sha256((folder/f).read_bytes()).hexdigest() for f in ('model.onnx', 'model.safetensors', 'gate.safetensors', 'training_films.txt', 'README.md')}
    (folder/'config.json').write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize('name', ['fracture', 'fracture-types'])
def test_a_bundle_of_version_0_1_predicts_the_same(tmp_path, name):
    from bonefrac.bundle import find_bundle, load_bundle
    from bonefrac.card import evaluated_bundle
    from bonefrac.phantoms import phantom
    from bonefrac.prediction import Predictor
    new, old = find_bundle(name), load_bundle(as_version_0_1(find_bundle(name).folder, tmp_path/'old'))
    assert old.training_digests() == new.training_digests() and old.config['schema'] == 2
    for key in ('classes', 'operating_points', 'ood', 'evaluation', 'architecture', 'temperature'): assert old.config[key] == new.config[key], key
    files = []
    for seed in range(3):
        Image.fromarray(phantom('hand', 'oblique', 320, seed=seed).pixels).save(out := BytesIO(), 'PNG')
        files.append((str(seed), out.getvalue()))
    assert list(Predictor(old).stream(files)) == list(Predictor(new).stream(files))
    metrics = dict(data='x', split='test', n=1, metrics={}, model=old.config['files']['model.onnx'])
    again = evaluated_bundle(old, metrics, tmp_path/'again')
    assert set(again.config['files']) == set(new.config['files'])


# Shipped cards

@pytest.mark.parametrize('name', ['fracture', 'fracture-types'])
def test_shipped_cards_are_in_step_with_their_configuration(name):
    from bonefrac.bundle import find_bundle
    from bonefrac.card import model_card
    bundle = find_bundle(name)
    card = (bundle.folder/'README.md').read_text(encoding='utf-8')
    assert card == model_card(bundle.config)
    page = Path(__file__).parents[1]/'nbs'/'models'/f'{name}.md'
    assert page.read_text(encoding='utf-8') == card
    for word in ('film', 'Net:', 'LabelledPredictions', '## Figures', 'gate', ' 95 %'): assert word not in card.replace('films.csv', ''), word


# Export

def small_learner(folder, size=64, n=80, init=None, seed=4, **options):
    from bonefrac.phantoms import phantom_dataset
    from bonefrac.training import fracture_learner
    images, _ = phantom_dataset(n, folder/f'phantoms-{seed}', size=96, seed=seed)
    try: from bonefrac.dataloaders import FractureDataLoaders
    except ImportError:   # as long as the loaders are made inside `fracture_learner`
        from bonefrac.dataloaders import ImageCache
        return fracture_learner(images, 'small_cnn', size, 16, init=init, cache=ImageCache(size, folder/'cache'), quiet=True, **options)
    dls = FractureDataLoaders.from_df(images, size=size, bs=16, cache=folder/'cache', quiet=True)
    return fracture_learner(dls, 'small_cnn', init=init, **options)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "(learner, its state before, what export said, the bundle)"
    from bonefrac.export import export_bundle
    folder, said = tmp_path_factory.mktemp('export'), []
    learn = small_learner(folder)
    learn.model.train()
    before = deepcopy(learn.model.state_dict())
    bundle = export_bundle(learn, folder/'bundle', 'first', data='phantoms', licence='CC BY 4.0', command='bonefrac train a', say=said.append)
    return learn, before, said, bundle


def test_export_leaves_the_learner_untouched(exported):
    import torch
    learn, before, _, _ = exported
    after = learn.model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[k], before[k]) for k in before)
    assert learn.model.training


def test_export_says_what_it_does(exported):
    assert exported[2] == ['calibrating', 'writing ONNX', 'fitting the input check']


def test_a_learner_has_to_bundle(exported, tmp_path):
    learn, *_, bundle = exported
    again = learn.to_bundle(tmp_path/'again', 'first', data='phantoms', licence='CC BY 4.0', command='bonefrac train a')
    assert again.config['temperature'] == bundle.config['temperature'] and again.config['operating_points'] == bundle.config['operating_points']


def test_a_fine_tuned_bundle_remembers_what_its_parent_saw(exported, tmp_path):
    from bonefrac.prediction import Predictor
    parent = exported[3]
    learn = small_learner(tmp_path, init=parent, seed=5)
    if not hasattr(learn.model, 'parent'): learn.model.parent = parent   # set by the training room
    child = learn.to_bundle(tmp_path/'child', 'second', licence='ODC-By 1.0', command='bonefrac train b --init a')
    own = {d for d in child.training_digests() if d not in parent.training_digests()}
    assert own and parent.training_digests() < child.training_digests()
    assert child.config['training']['licence'] == 'CC BY 4.0, ODC-By 1.0'
    assert child.config['training']['parent'] == dict(name='first', command='bonefrac train a')
    card = (child.folder/'README.md').read_text()
    assert 'bonefrac train a\nbonefrac train b --init a' in card
    images = exported[0].dls.images
    assert Predictor(child, check_input=False).findings(images[images.split == 'train'].head(3), quiet=True).in_training.all()


def test_agreement_of_several_findings_is_measured_by_their_own_probabilities():
    "Softmax is blind to an offset that all logits share"
    from bonefrac.export import largest_difference
    logits = np.zeros((4, 3))
    assert largest_difference(logits, logits + 1, multi=False) < 1e-9
    assert largest_difference(logits, logits + 1, multi=True) > .2
