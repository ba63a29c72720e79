"""bonefrac beside what a user would take instead, in one run: loading, training, prediction, cold start, growth.

Each peer has an environment of its own under .bench/. Images are FracAtlas's, or phantoms without BONEFRAC_DATA.

    BONEFRAC_DATA=... python bench/speed.py [--only loading training prediction start growth compile]

A part that is run alone, with the same --images and --size, replaces its own figures in bench/results/speed.json and leaves the others.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from harness import RESULTS, measured, peer_python, save

from bonefrac.datasets import read_dataset
from bonefrac.files import save_csv
from bonefrac.radiographs import RadiographError, read_letterboxed

HERE = Path(__file__).parent
PEERS = {'fastai': ('fastai', 'timm', 'setuptools'), 'keras': ('keras', 'tensorflow-cpu'), 'engines': ('onnxruntime', 'openvino', 'numpy')}


def told(command, **kwargs):
    "What a process prints as JSON on its last line, and its peak memory in MB"
    _, peak, out = measured(command, **kwargs)
    found = json.loads(out.splitlines()[-1]) | dict(peak_MB=peak)
    print(f'  {found}', file=sys.stderr, flush=True)
    return found


def peer(env, script, *args): return told([peer_python(env, *PEERS[env]), HERE/'peers'/script, *args], env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
def ours(script, *args): return told([sys.executable, HERE/'ours'/script, *args])


def real_images(n, folder):
    "Up to n images that can be read, in a folder a class, with their table"
    root = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))/'fracatlas'
    images = read_dataset(root if root.is_dir() else f'phantoms:{n}').images.sample(frac=1, random_state=0)
    kept = []
    for r in images.itertuples():
        try: read_letterboxed(r.path, 64)
        except RadiographError: continue
        kept.append(r.Index)
        if len(kept) == n: break
    images = images.loc[kept]
    for r in images.itertuples():
        (folder/r.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(r.path, folder/r.label)
    images = images.assign(path=[str(folder/r.label/Path(r.path).name) for r in images.itertuples()], group='', split=['valid' if i % 10 == 0 else 'train' for i in range(len(images))])
    save_csv(images, folder.with_suffix('.csv'))
    return images


def large_images(n, folder):
    "Drawn images of 2,000 pixels, as JPEG: what comes from a detector"
    from bonefrac.phantoms import phantom_dataset
    from PIL import Image
    images, _ = phantom_dataset(n, folder/'drawn', size=1000)
    for r in images.itertuples():
        (folder/'images'/r.label).mkdir(parents=True, exist_ok=True)
        Image.open(r.path).resize((2000, 2000), Image.Resampling.BICUBIC).save(folder/'images'/r.label/f'{Path(r.path).stem}.jpg', quality=90)
    shutil.rmtree(folder/'drawn')
    return folder/'images'


def loading(images, folder, size):
    found = {}
    for name, place, batches in (('FracAtlas images', images, 12), ('2,000-pixel images', large_images(128, folder/'large'), 3)):
        found[name] = {'bonefrac, warm cache': ours('loading.py', place, size, 12), 'torchvision ImageFolder': peer('fastai', 'torchvision_loading.py', place, size, batches),
                       'fastai ImageDataLoaders': peer('fastai', 'fastai_training.py', place, size, batches, 'load'), 'Keras': peer('keras', 'keras_training.py', place, size, batches, 'load')}
    return found


def training(images, folder, size):
    table, n = images.with_suffix('.csv'), 6
    return {'bonefrac': ours('training.py', table, size, n, 'whole'), 'bonefrac, body frozen': ours('training.py', table, size, n, 'head'), 'step only': ours('step.py', size, n),
            'fastai': peer('fastai', 'fastai_training.py', images, size, n, 'train'), 'Keras': peer('keras', 'keras_training.py', images, size, n, 'train'), 'limits': ours('limits.py', size)}


def a_bundle(images, out, size):
    "An untrained MobileNetV2: answers cost the same"
    if not out.exists(): ours('bundle.py', images.with_suffix('.csv'), size, out)
    return out


def prediction(images, folder, size):
    "bonefrac answers all images; the others, whose rate does not depend on how many there are, a part of them"
    files, few, bundle = sorted(images.rglob('*.*')), folder/'few', a_bundle(images, folder/'bundle', size)
    for f in files[::max(1, len(files) // 192)]:
        (few/f.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(f, few/f.parent.name)
    np.save(folder/'squares.npy', np.stack([read_letterboxed(f, size) for f in sorted(few.rglob('*.*'))]))
    return {'bonefrac': ours('prediction.py', bundle, images), 'engine alone, arrays in memory': peer('engines', 'engines.py', bundle/'model.onnx', folder/'squares.npy'),
            'fastai': peer('fastai', 'fastai_prediction.py', few, size, 32), 'PyTorch with timm': peer('fastai', 'torch_prediction.py', few, size), 'Keras': peer('keras', 'keras_prediction.py', few, size)}


def start(images, folder, size):
    "Seconds from the shell to the answer, the median of three; and what fastai takes to be imported"
    image, command, bundle = next(images.rglob('*.*')), Path(sys.executable).with_name('bonefrac'), a_bundle(images, folder/'bundle', size)
    def median(*words): return sorted(measured(words)[0] for _ in range(3))[1]
    return {'bonefrac predict, one image': median(command, 'predict', image, '--bundle', bundle), 'import fastai.vision.all': median(peer_python('fastai', *PEERS['fastai']), '-c', 'import fastai.vision.all')}


def growth(images, folder, size):
    """Seconds and peak memory for one to eight thousand images of 96 pixels, whatever the size of the rest.

    The images are the same ones again with a byte behind their end, which makes another file of each.
    """
    table, rows = pd.read_csv(images.with_suffix('.csv'), keep_default_na=False), {'prediction': [], 'training, an epoch': []}
    copies = []
    for i in range(8000 // len(table) + 1):
        paths = [folder/'grown'/f'{i}-{Path(p).name}' for p in table.path]
        paths[0].parent.mkdir(exist_ok=True)
        for path, p in zip(paths, table.path): path.write_bytes(Path(p).read_bytes() + bytes([i]))
        copies.append(table.assign(path=[str(p) for p in paths]))
    copies, bundle = pd.concat(copies), a_bundle(images, folder/'small', 96)
    for n in (1000, 2000, 4000, 8000):
        os.environ['BONEFRAC_CACHE'] = str(folder/f'cache-{n}')   # an empty one: every image is decoded
        save_csv(copies[:n], folder/'grown.csv')
        for job in rows: rows[job].append(ours('growth.py', job.split(',')[0], folder/'grown.csv', 96, bundle))
    return rows


def compiling(images, folder, size): return ours('step.py', 224, 8, 'compiled')


def rates(found):
    "(part, what, images a second) of everything that was measured"
    for kind, peers in found.get('loading', {}).items(): yield from ((f'loading {kind}', name, p['images_per_second']) for name, p in peers.items())
    yield from (('training', name, p['images_per_second']) for name, p in found.get('training', {}).items() if 'images_per_second' in p)
    for name, p in found.get('prediction', {}).items():
        yield from (('prediction', f'{name}: {k}' if k != 'images_per_second' else name, v) for k, v in p.items() if k not in ('peak_MB', 'one_image_ms'))
    yield from (('start', name, 1 / seconds) for name, seconds in found.get('start', {}).items())


def show(found):
    "The table: bonefrac stands first in each part, and each row says how many times as fast as that row bonefrac is"
    print(f"{'':28} {'':46} {'images/s':>9} {'ratio':>7}")
    first = {}
    for part, name, rate in rates(found): print(f"{part:28} {name:46} {rate:9.4g} {first.setdefault(part, rate) / rate:7.2f}")


def run(parts, n, size):
    "Measure these parts; the others keep what an earlier run found"
    began, before = time.time(), json.loads((RESULTS/'speed.json').read_text()) if (RESULTS/'speed.json').exists() else {}
    found = {'images': n, 'size': size} | {k: before[k] for k in ('images', 'size', 'minutes', *PARTS) if k in before}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.environ['BONEFRAC_CACHE'] = str(folder/'cache')
        real_images(n, folder/'images')
        for name in parts:
            print(name, file=sys.stderr, flush=True)
            found[name] = PARTS[name](folder/'images', folder, size)
            if parts == WHOLE: found |= dict(images=n, size=size, minutes=round((time.time() - began) / 60, 1))
            save('speed', **found)
    show(found)


PARTS = dict(loading=loading, training=training, prediction=prediction, start=start, growth=growth, compile=compiling)
WHOLE = [p for p in PARTS if p != 'compile']   # which pays nowhere that we measured, and takes its time

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=PARTS, default=WHOLE)
    parser.add_argument('--images', type=int, default=1000)
    parser.add_argument('--size', type=int, default=320, help='Side of the squares, pixels.')
    args = parser.parse_args()
    run(args.only, args.images, args.size)
