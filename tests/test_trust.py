"Which bundles are rejected, and which images the shipped one rejects"
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def rehash(folder, **changes):
    "What a forger would do: change files and correct their hashes"
    config = json.loads((folder/'config.json').read_text()) | changes
    config['files'] = {f: hashlib.sha256((folder/f).read_bytes()).hexdigest() for f in config['files']}
    (folder/'config.json').write_text(json.dumps(config))


def reconfigured(folder, **changes):
    config = json.loads((folder/'config.json').read_text())
    (folder/'config.json').write_text(json.dumps(config | changes))


def a_byte_of(name):
    def change(folder):
        data = bytearray((folder/name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder/name).write_bytes(data)
    return change


def other_shape(folder):
    "Weights for three classes under the names of two"
    from safetensors.numpy import load_file, save_file
    weights = load_file(folder/'model.safetensors')
    weights['head.evidence.weight'] = np.concatenate([weights['head.evidence.weight']] * 3)
    save_file(weights, folder/'model.safetensors')
    rehash(folder)


def other_ood(folder):
    from safetensors.numpy import load_file, save_file
    ood = load_file(folder/'ood.safetensors')
    ood['mean'] = ood['mean'][:-1]
    save_file(ood, folder/'ood.safetensors')
    rehash(folder)


def not_a_model(folder):
    (folder/'model.onnx').write_bytes(b'not a model')
    rehash(folder)


TAMPERED = {
    'a changed byte of the model': (a_byte_of('model.onnx'), 'model.onnx: was changed'),
    'a changed byte of the weights': (a_byte_of('model.safetensors'), 'model.safetensors: was changed'),
    'a changed byte of the input check': (a_byte_of('ood.safetensors'), 'ood.safetensors: was changed'),
    'a changed byte of the card': (a_byte_of('README.md'), 'README.md: was changed'),
    'a pickle': (lambda f: (f/'model.pkl').write_bytes(b'\x80\x04.'), 'execute code'),
    'a pickle below': (lambda f: ((f/'more').mkdir(), (f/'more'/'weights.pth').write_bytes(b'')), 'execute code'),
    'a path outside': (lambda f: reconfigured(f, files={'../../model.onnx': '0' * 64}), 'which no bundle has'),
    'no hash of the model': (lambda f: reconfigured(f, files={}), 'does not list model.onnx'),
    'an unknown schema': (lambda f: reconfigured(f, schema=3), 'schema version 3'),
    'other preprocessing': (lambda f: reconfigured(f, input={'size': 160, 'preprocessing': 99}), 'preprocessing version 99'),
    'an impossible size': (lambda f: reconfigured(f, input={'size': -1, 'preprocessing': 1}), 'not a whole number'),
    'another size than the model takes': (lambda f: reconfigured(f, input={'size': 96, 'preprocessing': 1}), 'other shapes'),
    'another number of classes': (lambda f: reconfigured(f, classes=['a', 'b', 'c'], operating_points={}), 'classes apart'),
    'weights of another shape': (other_shape, 'tells 3 classes apart'),
    'an input check of another shape': (other_ood, 'does not fit'),
    'a file that is not a model': (not_a_model, 'cannot be run'),
    'no configuration': (lambda f: (f/'config.json').unlink(), 'no bundle there'),
    'half a configuration': (lambda f: (f/'config.json').write_text((f/'config.json').read_text()[:99]), 'is not valid JSON'),
    'no model': (lambda f: (f/'model.onnx').unlink(), 'is missing'),
}


@pytest.mark.parametrize('how', TAMPERED)
def test_a_bundle_that_was_tampered_with_is_rejected(demo, tmp_path, how):
    from bonefrac.bundle import BundleError
    from bonefrac.prediction import Predictor
    change, why = TAMPERED[how]
    folder = shutil.copytree(demo/'bundle', tmp_path/'bundle')
    Predictor(folder)
    change(folder)
    with pytest.raises(BundleError, match=why) as e: Predictor(folder)
    assert '\n' not in str(e.value)


def test_a_rejected_bundle_gets_one_line(bonefrac, demo, images, tmp_path):
    folder = shutil.copytree(demo/'bundle', tmp_path/'bundle')
    a_byte_of('model.onnx')(folder)
    code, out, err = bonefrac('predict', images[0], '--bundle', folder)
    assert code == 2 and 'SHA-256 differs' in err and err.count('\n') == 1 and not out


def photos():
    "Photographs and scans that installed packages bring, each whole and in two pieces"
    import matplotlib
    import skimage
    import sklearn
    rng = np.random.default_rng(0)
    folders = Path(skimage.__file__).parent/'data', Path(sklearn.__file__).parent/'datasets'/'images', Path(matplotlib.__file__).parent/'mpl-data'/'sample_data'
    for path in sorted(p for folder in folders for p in folder.iterdir() if p.suffix in ('.png', '.jpg')):
        whole = Image.open(path).convert('RGB')
        yield whole
        for share in rng.uniform(.4, .7, 2):
            w, h = int(share * whole.width), int(share * whole.height)
            x, y = rng.integers(whole.width - w), rng.integers(whole.height - h)
            piece = whole.crop((x, y, x + w, y + h))
            if np.asarray(piece.convert('L')).std() > 3: yield piece


def charts(n):
    import matplotlib.pyplot as plt
    styles = 'default', 'dark_background', 'ggplot', 'grayscale'
    for i in range(n):
        rng = np.random.default_rng(i)
        draw = [lambda ax: ax.plot(rng.normal(0, 1, (80, 3)).cumsum(0)), lambda ax: ax.bar(range(8), rng.random(8)), lambda ax: ax.scatter(*rng.normal(0, 1, (2, 200))),
                lambda ax: ax.imshow(rng.random((12, 12))), lambda ax: ax.pie(rng.random(5)), lambda ax: ax.hist(rng.normal(0, 1, 500), 30)][i % 6]
        with plt.style.context(styles[i // 6 % 4]):
            fig, ax = plt.subplots(figsize=rng.uniform(4, 7, 2))
            draw(ax); ax.set_title('a chart'); fig.canvas.draw()
            yield Image.fromarray(np.asarray(fig.canvas.buffer_rgba())[..., :3])
            plt.close(fig)


@pytest.fixture(scope='module')
def other_pictures(tmp_path_factory):
    "At least 200 pictures that aren't bone radiographs"
    from bonefrac.not_radiographs import NOT_RADIOGRAPHS, not_radiograph
    folder = tmp_path_factory.mktemp('other')
    for i, picture in enumerate(photos()): picture.save(folder/f'photo-{i}.png')
    for i, picture in enumerate(charts(36)): picture.save(folder/f'chart-{i}.png')
    for kind in set(NOT_RADIOGRAPHS) - {'scene', 'texture'}:   # the input check was fitted to those
        for i in range(20): Image.fromarray(not_radiograph(kind, 256, i)).save(folder/f'{kind.replace(" ", "_")}-{i}.png')
    assert len(list(folder.iterdir())) >= 200
    return folder


def test_images_that_are_not_bone_radiographs_are_rejected(bonefrac, other_pictures):
    code, out, err = bonefrac('predict', other_pictures, '--format', 'json', '--quiet')
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 2 and len(answers) == len(list(other_pictures.iterdir()))
    accepted = [Path(a['path']).name for a in answers if a['refused'] is None]
    assert len(accepted) <= .05 * len(answers), accepted
    assert all(a['refused'].startswith('not a bone radiograph: ') for a in answers if a['refused'])


@pytest.mark.skipif('BONEFRAC_DATA' not in os.environ, reason='needs real images: set BONEFRAC_DATA')
def test_real_radiographs_are_accepted(bonefrac):
    "At most one in a hundred FracAtlas images that training has not seen is rejected"
    from bonefrac.bundle import find_bundle
    from bonefrac.files import digest
    from bonefrac.radiographs import image_files
    known = find_bundle().training_digests()
    images = [f for f in image_files(Path(os.environ['BONEFRAC_DATA'])/'fracatlas') if digest(f) not in known][::3]
    code, out, err = bonefrac('predict', '-', '--format', 'json', '--quiet', stdin='\n'.join(map(str, images)))
    answers = [a for a in map(json.loads, out.splitlines()) if 'truncated' not in (a['refused'] or '')]
    assert len(answers) > 200, err
    assert len([a for a in answers if a['refused']]) <= .01 * len(answers)
