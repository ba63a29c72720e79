"""What training on boxes does to the evidence map, and to the figures: two bundles on the same test images.

    bonefrac audit fracatlas --out runs/audit
    bonefrac train runs/audit/images.csv --size 224 --epochs 5 --out runs/plain
    bonefrac train runs/audit/images.csv --size 224 --epochs 5 --boxes --out runs/boxed
    python bench/evidence_maps.py runs/audit/images.csv runs/plain/bundle runs/boxed/bundle
"""
import argparse
import tempfile
from pathlib import Path

import torch
from harness import save

from bonefrac.bundle import load_bundle, write_bundle
from bonefrac.datasets import read_dataset
from bonefrac.evaluation import LabelledPredictions, figures, wilson_interval
from bonefrac.explain import map_correlation, evaluate_localization
from bonefrac.export import to_onnx
from bonefrac.models import fracture_model
from bonefrac.prediction import Predictor

FIGURES = ('pointing', 'overlap', 'inside', 'by_chance', 'outside_body')


def untrained(bundle, folder):
    "The same architecture with random weights"
    torch.manual_seed(0)
    net = fracture_model(bundle.config['architecture']['name'], len(bundle.classes), 'none').eval()
    config = {k: v for k, v in bundle.config.items() if k not in ('schema', 'files')}
    return write_bundle(Path(folder)/'untrained', config, {'model.onnx': to_onnx(net, bundle.size), 'model.safetensors': bundle.folder/'model.safetensors'})


def measured(bundle, images, boxes):
    predictor = Predictor(bundle)
    maps, found = evaluate_localization(predictor, images, boxes), figures(LabelledPredictions(predictor.findings(images)))
    low, high = wilson_interval(maps.pointing.mean(), len(maps))
    with tempfile.TemporaryDirectory() as folder: likeness = map_correlation(predictor, Predictor(untrained(bundle, folder)), images.path[:100])
    return {'auroc': {k: round(found['auroc'][k], 3) for k in ('value', 'low', 'high')}, 'images_with_boxes': len(maps), **{k: round(maps[k].mean(), 3) for k in FIGURES},
            'pointing_interval': [round(low, 3), round(high, 3)], 'likeness_to_random_weights': round(likeness, 3)}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data')
    parser.add_argument('plain')
    parser.add_argument('boxed')
    args = parser.parse_args()
    dataset = read_dataset(args.data)
    images = dataset.images[(dataset.images.split == 'test') & dataset.images.usable].reset_index(drop=True)
    bundles = {'without boxes': load_bundle(args.plain), 'with boxes': load_bundle(args.boxed)}
    save('evidence_maps', images=len(images), trained_by={k: b.config['training']['command'] for k, b in bundles.items()}, models={k: measured(b, images, dataset.boxes) for k, b in bundles.items()})
