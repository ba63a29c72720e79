"""What training on boxes does to evidence maps and metrics: two bundles on the same test images.

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
from bonefrac.evaluation import LabelledPredictions, compute_metrics, wilson_interval
from bonefrac.export import to_onnx
from bonefrac.localization import evaluate_localization, map_correlation
from bonefrac.models import fracture_model
from bonefrac.prediction import Predictor

SHARES = ('pointing', 'overlap', 'inside', 'by_chance', 'outside_body')


def untrained(bundle, folder):
    "The same architecture with random weights"
    torch.manual_seed(0)
    model = fracture_model(bundle.config['architecture']['name'], len(bundle.classes), pretrained=False).eval()
    config = {key: value for key, value in bundle.config.items() if key not in ('schema', 'files')}
    files = {'model.onnx': to_onnx(model, bundle.size), 'model.safetensors': bundle.folder/'model.safetensors'}
    return write_bundle(Path(folder)/'untrained', config, files)


def correlation_with_untrained(predictor, paths):
    "Rank correlation of the maps with those of random weights"
    with tempfile.TemporaryDirectory() as folder:
        return map_correlation(predictor, Predictor(untrained(predictor.bundle, folder)), paths)


def measured(bundle, images, boxes):
    "What bench/results/evidence_maps.json holds of one model"
    predictor = Predictor(bundle)
    maps = evaluate_localization(predictor, images, boxes)
    auroc = compute_metrics(LabelledPredictions(predictor.findings(images)))['auroc']
    low, high = wilson_interval(maps.pointing.mean(), len(maps))
    return {'auroc': {key: round(auroc[key], 3) for key in ('value', 'low', 'high')}, 'images_with_boxes': len(maps),
            **{key: round(maps[key].mean(), 3) for key in SHARES}, 'pointing_interval': [round(low, 3), round(high, 3)],
            'likeness_to_random_weights': round(correlation_with_untrained(predictor, images.path[:100]), 3)}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data')
    parser.add_argument('plain')
    parser.add_argument('boxed')
    args = parser.parse_args()
    dataset = read_dataset(args.data)
    images = dataset.images[(dataset.images.split == 'test') & dataset.images.usable].reset_index(drop=True)
    bundles = {'without boxes': load_bundle(args.plain), 'with boxes': load_bundle(args.boxed)}
    commands = {name: bundle.config['training']['command'] for name, bundle in bundles.items()}
    models = {name: measured(bundle, images, dataset.boxes) for name, bundle in bundles.items()}
    save('evidence_maps', images=len(images), trained_by=commands, models=models)
