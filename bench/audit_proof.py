"""How reliable is the proof that two images show one radiograph, on real images?

Images of FracAtlas are changed in twenty ways, and each copy is compared with its original; then each image is
compared with the images that are most like it among those that the audit considers different. Reported are both
distributions of the score, and what `MATCH_THRESHOLD` makes of them.

    BONEFRAC_DATA=... python bench/audit_proof.py
"""
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from harness import cores, need_data, save
from PIL import Image, ImageOps

from bonefrac.audit import audit
from bonefrac.copies import MATCH_THRESHOLD, candidates, match_images
from bonefrac.datasets import read_dataset
from bonefrac.signatures import SignatureStore, image_signature

BICUBIC = Image.Resampling.BICUBIC


def jpeg(im, quality):
    out = io.BytesIO(); im.save(out, 'JPEG', quality=quality)
    return Image.open(out).convert('L')


def gamma(im, g): return im.point([int(255 * (i / 255) ** g) for i in range(256)])


def cropped(im, left, top, right, bottom):
    w, h = im.size
    return im.crop((int(left * w), int(top * h), int((1 - right) * w), int((1 - bottom) * h)))


def local_contrast(im): return Image.fromarray(cv2.createCLAHE(2, (8, 8)).apply(np.asarray(im)))


CHANGES = {
    'JPEG, quality 50': lambda im: jpeg(im, 50), 'JPEG, quality 20': lambda im: jpeg(im, 20),
    'half the size': lambda im: im.resize((im.width // 2, im.height // 2)), 'a third of the size': lambda im: im.resize((im.width // 3, im.height // 3)),
    'brighter': lambda im: gamma(im, .6), 'darker': lambda im: gamma(im, 1.6), 'local contrast': local_contrast,
    'cropped by 5 %': lambda im: cropped(im, .05, .03, .03, .05), 'cropped by 10 %': lambda im: cropped(im, .1, 0, 0, .1), 'cropped by 20 %': lambda im: cropped(im, .2, .1, 0, .1),
    'black margin': lambda im: ImageOps.expand(im, (0, 0, im.width // 5, 0)), 'squeezed to a square': lambda im: im.resize((224, 224)),
    'mirrored': ImageOps.mirror, 'turned by 90': lambda im: im.rotate(90, expand=True), 'turned by 180': lambda im: im.rotate(180),
    'turned by 7': lambda im: im.rotate(7, BICUBIC), 'turned by 33': lambda im: im.rotate(33, BICUBIC), 'turned by 33, frame too': lambda im: im.rotate(33, BICUBIC, expand=True),
    'mirrored, turned by 7': lambda im: ImageOps.mirror(im).rotate(7, BICUBIC), 'squeezed, turned by 33': lambda im: im.resize((224, 224)).rotate(33, BICUBIC),
}


def signature(im):
    out = io.BytesIO(); im.save(out, 'PNG')
    return image_signature(out.getvalue())


def score(pair):
    match = match_images(*pair)
    return match.score if match else 0.


with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cores()) as pool:
    found = audit(read_dataset(need_data('fracatlas')/'fracatlas').images, Path(folder)/'signatures.sqlite')
    alone = found.images[found.images.usable].drop_duplicates('radiograph_id')   # what the audit says is different, to be judged here by score alone
    some = alone.sample(200, random_state=0)
    originals = list(pool.map(image_signature, some.path))
    images = [Image.open(p).convert('L') for p in some.path]
    found_again = {}
    for name, change in CHANGES.items():
        copies = list(pool.map(signature, map(change, images)))
        found_again[name] = np.array(list(pool.map(score, zip(originals, copies))))
    store, keys = SignatureStore(Path(folder)/'signatures.sqlite'), alone.digest.tolist()
    alike = {tuple(sorted((i, int(j)))) for ranked in candidates(store, keys, 4) for i, row in enumerate(ranked) for j in row if j != i}
    different = np.array(list(pool.map(score, [(store.get(keys[i]), store.get(keys[j])) for i, j in alike])))

every = np.concatenate(list(found_again.values()))
save('audit_proof', proven_from=MATCH_THRESHOLD, copies=len(every), copies_found=round(float((every >= MATCH_THRESHOLD).mean()), 4),
     by_change={name: dict(found=round(float((s >= MATCH_THRESHOLD).mean()), 3), median=round(float(np.median(s)), 3)) for name, s in found_again.items()},
     most_alike_pairs=len(different), of_these_at_or_above=int((different >= MATCH_THRESHOLD).sum()), highest_scores=np.sort(different)[::-1][:5].round(3).tolist())
