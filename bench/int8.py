"""Is prediction in 8 bits worth it? Speed and AUROC of a bundle's model as it is and quantised, on images that were not used to fit its weights.

    bonefrac audit fracatlas --out runs/audit
    bonefrac train runs/audit/images.csv --size 224 --epochs 5 --out runs/plain
    python bench/int8.py runs/plain
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from harness import save
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.metrics import roc_auc_score

from bonefrac.bundle import load_bundle
from bonefrac.datasets import FRACTURED, read_images_csv
from bonefrac.radiographs import read_letterboxed


class CalibrationImages(CalibrationDataReader):
    "Letterboxed images in batches of eight"
    def __init__(self, pixels, input_name):
        self.batches = iter([{input_name: pixels[i:i+8]} for i in range(0, len(pixels), 8)])

    def get_next(self): return next(self.batches, None)


def letterboxed(images, size):
    "(n, 1, size, size) uint8"
    return np.stack([read_letterboxed(path, size) for path in images.path])[:, None]


def logits_of(session, pixels, bs=16):
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(['logits'], {name: pixels[i:i+bs]})[0] for i in range(0, len(pixels), bs)])


def measure(model, pixels, is_fractured, rounds=3):
    session, times = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider']), []
    for _ in range(rounds):
        start = time.perf_counter()
        logits = logits_of(session, pixels)
        times.append(time.perf_counter() - start)
    auroc = roc_auc_score(is_fractured, logits[:, 1] - logits[:, 0])
    return dict(images_per_second=round(len(pixels) / min(times), 1), auroc=round(auroc, 4))


def quantised(model, pixels, folder):
    "The path of the model in 8 bits, calibrated on some images"
    prepared, small = f'{folder}/prepared.onnx', f'{folder}/int8.onnx'
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    name = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider']).get_inputs()[0].name
    quantize_static(prepared, small, CalibrationImages(pixels, name), per_channel=True, reduce_range=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return small


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('run', type=Path)
run = parser.parse_args().run
bundle, images = load_bundle(run/'bundle'), read_images_csv(run/'images.csv')
images = images[images.usable]
held_out = images[images.split.isin(('valid', 'test'))]
pixels, is_fractured = letterboxed(held_out, bundle.size), held_out.label == FRACTURED
calibration = letterboxed(images[images.split == 'train'].sample(64, random_state=0), bundle.size)
with tempfile.TemporaryDirectory() as folder:
    small = quantised(bundle.onnx, calibration, folder)
    save('int8', images=len(pixels), size=bundle.size, fp32=measure(bundle.onnx, pixels, is_fractured),
         int8=measure(small, pixels, is_fractured))
