"""What changes of the picture do to a model: area under the ROC curve, and how many answers change, on its test images.

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
from bonefrac.evaluation import LabelledPredictions, figures
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
        im, out = Image.fromarray(read_radiograph(path).pixels), folder/f'{i}.{"jpg" if isinstance(change, int) else "png"}'
        im.save(out, quality=change) if isinstance(change, int) else change(im).save(out, compress_level=1)
        return str(out)
    with ThreadPoolExecutor(os.cpu_count()) as pool: return images.assign(path=list(pool.map(one, range(len(images)), images.path)))


def side(findings): return findings.answer.map({'fracture': 1, 'no fracture': -1}).fillna(0)


def area(answered):
    "Under the ROC curve; nothing where too few are left to tell"
    if answered.label.value_counts().reindex(['fractured', 'not fractured']).fillna(0).min() < 10: return dict(value=None, low=None, high=None)
    return {k: round(v, 3) for k, v in figures(LabelledPredictions(answered), resamples=500)['auroc'].items() if k in ('value', 'low', 'high')}


def share(mask): return round(float(mask.mean()), 4) if len(mask) else None


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('images', type=Path)
parser.add_argument('--bundle', default='fracture')
parser.add_argument('--split', default='test')
parser.add_argument('--source', help='Images of this set only.')
parser.add_argument('--every', type=int, default=1, help='Take one image in so many, of each label.')
given = parser.parse_args()
images = read_images_csv(given.images)
images = images[images.usable & (images.split == given.split) & (images.label != '') & (images.source == given.source if given.source else True)].sort_values('label', kind='stable')[::given.every].reset_index(drop=True)
predictor = Predictor(given.bundle)
before, rows = predictor.findings(images, quiet=True), []
for name, change in {'as it is': lambda im: im, **CHANGES}.items():
    with tempfile.TemporaryDirectory() as folder: after = predictor.findings(changed_images(images, change, Path(folder)), quiet=True)
    answered = (after.refused == '') & (before.refused == '')
    rows.append(dict(change=name, **area(after[after.refused == '']), refused=share(after.refused != ''), inverted=share(after.inverted),
                     answers_changed=share((after.answer != before.answer)[answered]), reversed=share((side(after) * side(before) < 0)[answered])))
    print(rows[-1], flush=True)
save('robustness', images=len(images), bundle=predictor.bundle.name, split=given.split, changes=rows)
