"What a user gets: the wheel in an empty environment, without torch"
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

@pytest.fixture(scope='module')
def empty(wheel, tmp_path_factory):
    "An environment with the wheel and its dependencies, nothing else"
    home = tmp_path_factory.mktemp('empty')/'env'
    venv.create(home, with_pip=False)
    done = subprocess.run([Path(sys.executable).with_name('uv'), 'pip', 'install', '-q', '--python', home/'bin'/'python', str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home/'bin'


def test_wheel_holds_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {'bonefrac/cli.py', 'bonefrac/templates/card.md'} <= set(names) and not [n for n in names if n.startswith(('tests/', 'nbs/', 'tools/', 'bench/'))]
    metadata = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith('METADATA'))).decode()
    assert 'Provides-Extra: train' in metadata and 'Requires-Dist: onnxruntime' in metadata and '\nRequires-Dist: torch>=2.6\n' not in metadata


def run(empty, cache, *args):
    env = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')} | {'BONEFRAC_CACHE': str(cache)}
    done = subprocess.run([empty/'bonefrac', *map(str, args)], capture_output=True, text=True, cwd='/', env=env)
    return done.returncode, done.stdout, done.stderr


def test_predicts_without_torch(empty, cache, demo, images, bonefrac):
    assert subprocess.run([empty/'python', '-c', 'import torch'], capture_output=True).returncode != 0
    code, out, err = run(empty, cache, 'predict', *images, '--bundle', demo/'bundle', '--format', 'json')
    assert code == 0, err
    ours = [json.loads(line) for line in bonefrac('predict', *images, '--bundle', demo/'bundle', '--format', 'json')[1].splitlines()]
    for a, b in zip(map(json.loads, out.splitlines()), ours): assert a['answer'] == b['answer'] and abs(a['probability'] - b['probability']) < 1e-4


OFFLINE = r"""
import atexit, re, socket, sys
def refused(*args): raise OSError('the network is off')
socket.socket.connect = socket.getaddrinfo = refused
def peak(): return int(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1]) // 1024 if sys.platform == 'linux' else 0   # getrusage would count the program that this one was forked from
atexit.register(lambda: print(peak(), 'torch' in sys.modules, file=sys.stderr))
from bonefrac.cli import main
main()
"""


def image_files(folder):
    "One image as PNG, JPEG and DICOM: of a real radiograph where there are any, else of a phantom"
    from PIL import Image, ImageOps
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
    import pydicom
    real = sorted((Path(os.environ['BONEFRAC_DATA'])/'fracatlas'/'images'/'Fractured').glob('*.jpg')) if 'BONEFRAC_DATA' in os.environ else []
    if real:
        image = Image.open(real[0]).convert('L')
    else:
        from bonefrac.phantoms import phantom
        image = ImageOps.autocontrast(Image.fromarray(phantom(size=512, seed=1).pixels))   # DICOM without a window is shown over the range of its greys
    image.save(folder/'image.png'); image.save(folder/'image.jpg', quality=95)
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = image.height, image.width, 1, 'MONOCHROME2'
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.PixelData = 7, 0, image.tobytes() + b'\0' * (image.width * image.height % 2)
    ds.save_as(folder/'image.dcm', enforce_file_format=True)
    return [folder/f'image.{kind}' for kind in ('png', 'jpg', 'dcm')], not real


@pytest.mark.parametrize('model', ['fracture', 'fracture-types'])
def test_shipped_models_predict_without_a_network(empty, tmp_path, model):
    paths, is_phantom = image_files(tmp_path)
    done = subprocess.run([empty/'python', '-c', OFFLINE, 'predict', *paths, '--bundle', model, '--format', 'json', *(['--no-input-check'] if is_phantom or model != 'fracture' else [])], capture_output=True, text=True, cwd='/')
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    png, jpeg, dicom = (a['probability'] for a in answers)
    assert {a['refused'] for a in answers} == {None} and abs(png - dicom) < 1e-4 and abs(png - jpeg) < .2
    megabytes, torch = done.stderr.splitlines()[-1].split()
    assert int(megabytes) < 400 and torch == 'False'


def test_shipped_models_are_small_and_hold_no_path_of_the_machine_that_made_them(wheel):
    archive = zipfile.ZipFile(wheel)
    inside = [i for i in archive.infolist() if i.filename.startswith('bonefrac/bundles/')]
    assert len(inside) == 12 and sum(i.file_size for i in inside) < 30 * 10 ** 6
    assert [i.filename for i in inside if i.filename.endswith('.onnx') and (b'.py' in (data := archive.read(i)) or b'File "' in data)] == []


def test_evaluates_without_torch(empty, cache, demo, tmp_path):
    code, out, err = run(empty, cache, 'evaluate', demo/'bundle', demo/'images.csv', '--out', tmp_path/'eval', '--quiet')
    assert code == 0 and 'AUROC' in out, err
    assert (tmp_path/'eval'/'report.html').exists()


def test_training_tells_what_to_install(empty, cache, tmp_path):
    code, out, err = run(empty, cache, 'train', 'phantoms:60', '--out', tmp_path/'run')
    assert code == 2 and "pip install 'bonefrac[train]'" in err and 'Traceback' not in err
