"""What changes of the image do to a model: AUROC, and how many answers change, on its test images.

    bonefrac audit fracatlas multiregion --out audit-both
    bonefrac train audit-both/images.csv --folds 5 --fold 0 ... --out fracture-folds/fold-0
    python bench/robustness.py fracture-folds/fold-0/images.csv --source fracatlas --every 3
"""
import argparse
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from harness import save
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from bonefrac.datasets import read_images_csv
from bonefrac.evaluation import LabelledPredictions, compute_metrics
from bonefrac.prediction import Predictor
from bonefrac.radiographs import read_radiograph


def power(gamma): return lambda im: im.point([round(255 * (v / 255) ** gamma) for v in range(256)])
def contrast(by): return lambda im: im.point([min(255, max(0, round(127.5 + by * (v - 127.5)))) for v in range(256)])
def turned(angle): return lambda im: im.rotate(angle, Image.Resampling.BICUBIC, expand=True)
def blurred(share): return lambda im: im.filter(ImageFilter.GaussianBlur(share * max(im.size)))
def smaller(side): return lambda im: im.resize([max(1, round(side * n / max(im.size))) for n in im.size], Image.Resampling.LANCZOS)


def noisy(sd):
    def change(im):
        grey = np.asarray(im, np.float32)
        return Image.fromarray(np.clip(grey + np.random.default_rng(0).normal(0, sd, grey.shape), 0, 255).astype(np.uint8))
    return change


def marked(im):
    "A side marker, as it lies on many images"
    im, font = im.copy(), ImageFont.load_default(max(im.size) / 10)
    ImageDraw.Draw(im).text((.05 * im.width, .05 * im.height), 'R', fill=255, font=font)
    return im


def framed(grey): return lambda im: ImageOps.expand(im, round(.08 * max(im.size)), grey)


CHANGES = {
    'rotated 5 degrees': turned(5), 'rotated 15 degrees': turned(15), 'rotated 90 degrees': turned(90), 'rotated 180 degrees': turned(180),
    'mirrored': ImageOps.mirror, 'brighter (gamma 0.7)': power(.7), 'darker (gamma 1.4)': power(1.4), 'contrast halved': contrast(.5), 'contrast 1.5 times': contrast(1.5),
    'blur, 0.2 % of the side': blurred(.002), 'blur, 0.5 % of the side': blurred(.005), 'noise, sd 5 of 255': noisy(5), 'noise, sd 15 of 255': noisy(15),
    'JPEG quality 90': 90, 'JPEG quality 50': 50, 'JPEG quality 25': 25, 'JPEG quality 10': 10, 'scaled to 256 pixels': smaller(256), 'scaled to 128 pixels': smaller(128),
    'side marker': marked, 'black border': framed(0), 'white border': framed(255), 'inverted grey': ImageOps.invert,
}


def changed_images(images, change, folder):
    "The images, changed and saved; as JPEG where the change is a quality"
    def one(i, path):
        im = Image.fromarray(read_radiograph(path).pixels)
        if isinstance(change, int):
            out = folder/f'{i}.jpg'
            im.save(out, quality=change)
        else:
            out = folder/f'{i}.png'
            change(im).save(out, compress_level=1)
        return str(out)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return images.assign(path=list(pool.map(one, range(len(images)), images.path)))


def side(findings): return findings.answer.map({'fracture': 1, 'no fracture': -1}).fillna(0)


def auroc(findings):
    "AUROC of the answered images; nothing where fewer than ten of a class are left"
    counts = findings.label.value_counts().reindex(['fractured', 'not fractured']).fillna(0)
    if counts.min() < 10:
        return dict(value=None, low=None, high=None)
    found = compute_metrics(LabelledPredictions(findings), resamples=500)['auroc']
    return {k: round(found[k], 3) for k in ('value', 'low', 'high')}


def share(mask): return round(float(mask.mean()), 4) if len(mask) else None


def row(name, before, after):
    "What a change did to the findings"
    both = (after.refused == '') & (before.refused == '')
    return dict(change=name, **auroc(after[after.refused == '']), refused=share(after.refused != ''),
                inverted=share(after.inverted), answers_changed=share((after.answer != before.answer)[both]),
                reversed=share((side(after) * side(before) < 0)[both]))


def chosen_images(given):
    "Usable, labelled images of the split, every so many of each label"
    images = read_images_csv(given.images)
    images = images[images.usable & (images.split == given.split) & (images.label != '')]
    if given.source:
        images = images[images.source == given.source]
    return images.sort_values('label', kind='stable')[::given.every].reset_index(drop=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('images', type=Path)
    parser.add_argument('--bundle', default='fracture')
    parser.add_argument('--split', default='test')
    parser.add_argument('--source', help='Images of this dataset only.')
    parser.add_argument('--every', type=int, default=1, help='Take one image in so many, of each label.')
    given = parser.parse_args()
    images, predictor = chosen_images(given), Predictor(given.bundle)
    before, rows = predictor.findings(images, quiet=True), []
    for name, change in {'as it is': lambda im: im, **CHANGES}.items():
        with tempfile.TemporaryDirectory() as folder:
            after = predictor.findings(changed_images(images, change, Path(folder)), quiet=True)
        rows.append(row(name, before, after))
        print(rows[-1], flush=True)
    save('robustness', images=len(images), bundle=predictor.bundle.name, split=given.split, changes=rows)


if __name__ == '__main__':
    main()
