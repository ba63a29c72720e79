"What a bundle is refused for"
import hashlib
import json
import shutil

import numpy as np
import pytest


def rehash(folder, **changes):
    "A forger's work: files changed and their hashes put right"
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


def other_gate(folder):
    from safetensors.numpy import load_file, save_file
    gate = load_file(folder/'gate.safetensors')
    gate['mean'] = gate['mean'][:-1]
    save_file(gate, folder/'gate.safetensors')
    rehash(folder)


def no_model(folder):
    (folder/'model.onnx').write_bytes(b'not a model')
    rehash(folder)


TAMPERED = {
    'a changed byte of the model': (a_byte_of('model.onnx'), 'model.onnx: was changed'),
    'a changed byte of the weights': (a_byte_of('model.safetensors'), 'model.safetensors: was changed'),
    'a changed byte of the gate': (a_byte_of('gate.safetensors'), 'gate.safetensors: was changed'),
    'a changed byte of the card': (a_byte_of('README.md'), 'README.md: was changed'),
    'a pickle': (lambda f: (f/'model.pkl').write_bytes(b'\x80\x04.'), 'execute code'),
    'a pickle below': (lambda f: ((f/'more').mkdir(), (f/'more'/'weights.pth').write_bytes(b'')), 'execute code'),
    'a path outside': (lambda f: reconfigured(f, files={'../../model.onnx': '0' * 64}), 'which no bundle has'),
    'no hash of the model': (lambda f: reconfigured(f, files={}), 'does not list model.onnx'),
    'an unknown schema': (lambda f: reconfigured(f, schema=2), 'schema version 2'),
    'other preprocessing': (lambda f: reconfigured(f, input={'size': 160, 'preprocessing': 99}), 'preprocessing version 99'),
    'a size that is none': (lambda f: reconfigured(f, input={'size': -1, 'preprocessing': 1}), 'not a whole number'),
    'another size than the model takes': (lambda f: reconfigured(f, input={'size': 96, 'preprocessing': 1}), 'other shapes'),
    'another number of classes': (lambda f: reconfigured(f, classes=['a', 'b', 'c']), 'classes apart'),
    'weights of another shape': (other_shape, 'tells 3 classes apart'),
    'a gate of another shape': (other_gate, 'does not fit'),
    'a model that is none': (no_model, 'cannot be run'),
    'no configuration': (lambda f: (f/'config.json').unlink(), 'no bundle there'),
    'half a configuration': (lambda f: (f/'config.json').write_text((f/'config.json').read_text()[:99]), 'is no JSON'),
    'no model': (lambda f: (f/'model.onnx').unlink(), 'is missing'),
}


@pytest.mark.parametrize('how', TAMPERED)
def test_a_bundle_that_was_tampered_with_is_refused(demo, tmp_path, how):
    from bonefrac.bundle import BundleError
    from bonefrac.prediction import Predictor
    change, why = TAMPERED[how]
    folder = shutil.copytree(demo/'bundle', tmp_path/'bundle')
    Predictor(folder)
    change(folder)
    with pytest.raises(BundleError, match=why) as e: Predictor(folder)
    assert '\n' not in str(e.value)


def test_a_refused_bundle_gets_one_line(bonefrac, demo, films, tmp_path):
    folder = shutil.copytree(demo/'bundle', tmp_path/'bundle')
    a_byte_of('model.onnx')(folder)
    code, out, err = bonefrac('predict', films[0], '--bundle', folder)
    assert code == 2 and 'SHA-256 differs' in err and err.count('\n') == 1 and not out
