"""Does prediction in 8 bits pay? Speed and AUROC of a bundle's net as it is and quantised, on images that training did not learn from.

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


class Images(CalibrationDataReader):
    def __init__(self, squares): self.batches = iter([{'image': squares[i:i+8]} for i in range(0, len(squares), 8)])
    def get_next(self): return next(self.batches, None)


def measure(model, squares, broken, rounds=3):
    session, times = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider']), []
    for _ in range(rounds):
        start = time.perf_counter()
        logits = np.concatenate([session.run(['logits'], {'image': squares[i:i+16]})[0] for i in range(0, len(squares), 16)])
        times.append(time.perf_counter() - start)
    return dict(images_per_second=round(len(squares) / min(times), 1), auroc=round(roc_auc_score(broken, logits[:, 1] - logits[:, 0]), 4))


def squares(part, size): return np.stack([read_letterboxed(p, size) for p in part.path])[:, None]


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('run', type=Path)
run = parser.parse_args().run
bundle, images = load_bundle(run/'bundle'), read_images_csv(run/'images.csv')
images = images[images.usable]
held_out = images[images.split.isin(('valid', 'test'))]
asked, broken = squares(held_out, bundle.size), held_out.label == FRACTURED
with tempfile.TemporaryDirectory() as folder:
    ready, small = f'{folder}/ready.onnx', f'{folder}/int8.onnx'
    quant_pre_process(bundle.onnx, ready, skip_symbolic_shape=True)
    quantize_static(ready, small, Images(squares(images[images.split == 'train'].sample(64, random_state=0), bundle.size)), per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    save('int8', images=len(asked), size=bundle.size, fp32=measure(bundle.onnx, asked, broken), int8=measure(small, asked, broken))
