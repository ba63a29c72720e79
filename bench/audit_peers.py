"""bonefrac's audit beside cleanvision and imagededup, on the same folder: time, memory, and what each finds.

Each peer gets an environment of its own under .bench/. What counts as found is told by planted copies: images of a
real set (or phantoms, without BONEFRAC_DATA) are copied in nine ways, and a copy is found when the tool names it
together with its original. False pairs are those that join images of which neither is a copy of the other.

    BONEFRAC_DATA=... python bench/audit_peers.py [--images 2000]
"""
import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import measured, peer_python, save
from PIL import Image, ImageOps

from bonefrac.audit import audit

BICUBIC = Image.Resampling.BICUBIC
COPIES = {'same pixels, as PNG': lambda im: im, 'half the size': lambda im: im.resize((im.width // 2, im.height // 2)), 'darker': lambda im: im.point([int(255 * (i / 255) ** 1.5) for i in range(256)]),
          'cropped by a tenth': lambda im: im.crop((im.width // 10, 0, im.width, im.height - im.height // 10)), 'mirrored': ImageOps.mirror, 'turned by 90': lambda im: im.rotate(90, expand=True),
          'turned by 7': lambda im: im.rotate(7, BICUBIC), 'turned by 33': lambda im: im.rotate(33, BICUBIC), 'JPEG, quality 30': None}

BONEFRAC = '''
import json, sys, warnings; warnings.filterwarnings('ignore')
from itertools import combinations
from pathlib import Path
from bonefrac.audit import audit
from bonefrac.datasets import image_files, images_table
images = images_table([dict(path=str(p)) for p in image_files(sys.argv[1])])
found = audit(images, sys.argv[2], quiet=True)
print(json.dumps([pair for f in found.copies.paths for pair in combinations([Path(p).name for p in f], 2)]))
'''
CLEANVISION = '''
import json, sys, contextlib
from itertools import combinations
from pathlib import Path
from cleanvision import Imagelab
with contextlib.redirect_stdout(sys.stderr):
    lab = Imagelab(data_path=sys.argv[1]); lab.find_issues(n_jobs=int(sys.argv[2]))
sets = lab.info['exact_duplicates']['sets'] + lab.info['near_duplicates']['sets']
print(json.dumps([pair for s in sets for pair in combinations([Path(p).name for p in s], 2)]))
'''
IMAGEDEDUP = '''
import json, sys
from imagededup.methods import PHash
if __name__ == '__main__':
    found = PHash(verbose=False).find_duplicates(image_dir=sys.argv[1], max_distance_threshold=10, num_enc_workers=int(sys.argv[2]), num_dist_workers=int(sys.argv[2]))
    print(json.dumps([[k, o] for k, v in found.items() for o in v]))
'''


def distinct_images(n, folder):
    "Up to `n` images that the audit finds to be different radiographs"
    root = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))/'fracatlas'
    found = audit(str(root) if root.is_dir() else f'phantoms:{n}', folder/'first.sqlite')
    return found.images[found.images.usable].drop_duplicates('radiograph_id').path.tolist()[:n], root.name if root.is_dir() else 'phantoms'


def plant(paths, folder):
    "{copy: (original, way)}: every tenth image gets a copy, in each way in turn"
    planted, ways = {}, list(COPIES)
    for i, path in enumerate(paths):
        im = Image.open(path).convert('L')
        im.save(folder/f'image{i:05d}.jpg', quality=95)
        if i % 10: continue
        way = ways[i // 10 % len(ways)]
        name = f'copy{i:05d}.jpg' if way.startswith('JPEG') else f'copy{i:05d}.png'
        im = Image.open(folder/f'image{i:05d}.jpg')
        im.save(folder/name, quality=30) if way.startswith('JPEG') else COPIES[way](im).save(folder/name)
        planted[name] = (f'image{i:05d}.jpg', way)
    return planted


def judged(pairs, planted):
    "Share found of each way, and the number of false pairs"
    pairs = {frozenset(p) for p in pairs}
    true = {frozenset((c, o)) for c, (o, _) in planted.items()}
    ways = {w: [frozenset((c, o)) in pairs for c, (o, way) in planted.items() if way == w] for w in COPIES}
    return dict(found={w: round(float(np.mean(hit)), 3) for w, hit in ways.items() if hit}, found_of_all=round(len(true & pairs) / len(true), 3), false_pairs=len(pairs - true))


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--images', type=int, default=2000)
n = parser.parse_args().images
with tempfile.TemporaryDirectory() as tmp:
    tmp = Path(tmp); folder = tmp/'images'; folder.mkdir()
    paths, source = distinct_images(n, tmp)
    planted, workers = plant(paths, folder), os.cpu_count()
    tools = {'bonefrac': ([sys.executable, '-c', BONEFRAC, folder, tmp/'second.sqlite']),
             'cleanvision': [peer_python('cleanvision', 'cleanvision'), '-c', CLEANVISION, folder, workers],
             'imagededup': [peer_python('imagededup', 'imagededup', 'setuptools<81'), '-c', IMAGEDEDUP, folder, workers]}
    results = {}
    for name, command in tools.items():
        seconds, peak, out = measured(command)
        results[name] = dict(seconds=seconds, peak_MB=peak, **judged(json.loads(out.splitlines()[-1]), planted))
save('audit_peers', images=len(paths) + len(planted), source=source, copies=len(planted), tools=results)
