"""bonefrac beside what a user would take instead, in one run: loading, training, prediction, cold start, growth.

Each peer has an environment of its own under .bench/. Films are FracAtlas's, or phantoms without BONEFRAC_DATA.

    BONEFRAC_DATA=... python bench/speed.py [--only loading training prediction start growth]
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import measured, peer_python, save

from bonefrac.datasets import read_dataset, save_csv
from bonefrac.radiographs import RadiographError, read_square

HERE, SIZE = Path(__file__).parent, 320
PEERS = {'fastai': ('fastai', 'timm', 'setuptools'), 'keras': ('keras', 'tensorflow-cpu'), 'engines': ('onnxruntime', 'openvino', 'numpy')}


def peer(env, script, *args):
    "What a peer's script prints as JSON, and its peak memory in MB"
    _, peak, out = measured([peer_python(env, *PEERS[env]), HERE/'peers'/script, *args], env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
    return json.loads(out.splitlines()[-1]) | dict(peak_MB=peak)


def ours(code, *args):
    "What a piece of code prints as JSON, in a process of its own"
    _, peak, out = measured([sys.executable, '-c', code, *args])
    return json.loads(out.splitlines()[-1]) | dict(peak_MB=peak)


def real_films(n, folder):
    "Up to n films that can be read, in a folder a class, with their table"
    root = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))/'fracatlas'
    films = read_dataset(root if root.is_dir() else f'phantoms:{n}').films.sample(frac=1, random_state=0)
    kept = []
    for r in films.itertuples():
        try: read_square(r.path, 64)
        except RadiographError: continue
        kept.append(r.Index)
        if len(kept) == n: break
    films = films.loc[kept]
    for r in films.itertuples():
        (folder/r.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(r.path, folder/r.label)
    films = films.assign(path=[str(folder/r.label/Path(r.path).name) for r in films.itertuples()], group='', split=['valid' if i % 10 == 0 else 'train' for i in range(len(films))])
    save_csv(films, folder.with_suffix('.csv'))
    return films


def large_films(n, folder):
    "Drawn films of 2,000 pixels, as JPEG: what comes from a detector"
    from bonefrac.phantoms import phantom_films
    from PIL import Image
    films, _ = phantom_films(n, folder/'drawn', size=1000)
    for r in films.itertuples():
        (folder/'films'/r.label).mkdir(parents=True, exist_ok=True)
        Image.open(r.path).resize((2000, 2000), Image.Resampling.BICUBIC).save(folder/'films'/r.label/f'{Path(r.path).stem}.jpg', quality=90)
    shutil.rmtree(folder/'drawn')
    return folder/'films'


LOAD = '''
import json, sys, time, warnings; warnings.filterwarnings('ignore')
from bonefrac.dataloaders import film_dataloaders
from bonefrac.datasets import draw_split, read_dataset
dls = film_dataloaders(draw_split(read_dataset(sys.argv[1]).films.assign(split='', group=''), .1, 0), int(sys.argv[2]), 32, quiet=True)
def once(batches=int(sys.argv[3]), n=0):
    start = time.perf_counter()
    while n < 32 * batches:
        for x, _ in dls.train: n += len(x)
    return n / (time.perf_counter() - start)
once(); print(json.dumps(dict(films_per_second=round(once(), 2))))
'''

TRAIN = '''
import json, sys, time, warnings; warnings.filterwarnings('ignore')
import torch
from fastai.callback.core import Callback, CancelFitException
from bonefrac.datasets import read_dataset
from bonefrac.training import fracture_learner
class Clock(Callback):
    order, times, end = 1000, [], None
    def after_batch(self):
        if not self.training: return
        now = time.perf_counter()
        if self.end: self.times.append(now - self.end)
        self.end = now
        if len(self.times) == int(sys.argv[3]) + 2: raise CancelFitException()
learn = fracture_learner(read_dataset(sys.argv[1]).films, size=int(sys.argv[2]), weights='none', quiet=True, **json.loads(sys.argv[4]))
if sys.argv[5] == 'frozen': learn.freeze()
with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(9, 1e-3, cbs=Clock())
times = sorted(Clock.times[2:])
print(json.dumps(dict(films_per_second=round(32 / times[len(times) // 2], 2))))
'''

STEP = '''
import json, sys, time, warnings; warnings.filterwarnings('ignore')
import torch
from bonefrac.models import fracture_net
from bonefrac.training import precision_callbacks
size, batches = int(sys.argv[1]), int(sys.argv[2])
x, y = torch.rand(32, 1, size, size), torch.randint(0, 2, (32,))
def rate(bf16, last):
    net = fracture_net(weights='none').train()
    if last: net = net.to(memory_format=torch.channels_last)
    opt, times = torch.optim.AdamW(net.parameters()), []
    for _ in range(batches + 2):
        start = time.perf_counter()
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16): loss = torch.nn.functional.cross_entropy(net(x).float(), y)
        loss.backward(); opt.step(); opt.zero_grad(); times.append(time.perf_counter() - start)
    return round(32 / sorted(times[2:])[batches // 2], 2)
fast = bool(precision_callbacks(torch.device('cpu')))
print(json.dumps({'fp32': rate(False, False), 'fp32, channels last': rate(False, True), **({'bf16, channels last': rate(True, True)} if fast else {})}))
'''

PREDICT = '''
import json, sys, time
from pathlib import Path
import numpy as np
from bonefrac.prediction import Predictor
ask, files = Predictor(sys.argv[1]), sorted(Path(sys.argv[2]).rglob('*.*'))
list(ask.stream(files[:32]))
start = time.perf_counter(); n = sum(1 for _ in ask.stream(files)); folder = n / (time.perf_counter() - start)
times = []
for f in files[:200]: start = time.perf_counter(); list(ask.stream([f])); times.append(1e3 * (time.perf_counter() - start))
print(json.dumps(dict(films_per_second=round(folder, 2), one_film_ms=dict(median=round(float(np.median(times)), 1), p99=round(float(np.percentile(times, 99)), 1)))))
'''


def loading(films, large):
    found = {}
    for name, folder, batches in (('FracAtlas films', films, 12), ('2,000-pixel films', large, 3)):
        found[name] = {'bonefrac, warm cache': ours(LOAD, folder, SIZE, 12), 'torchvision ImageFolder': peer('fastai', 'torchvision_loading.py', folder, SIZE, batches),
                       'fastai ImageDataLoaders': peer('fastai', 'fastai_training.py', folder, SIZE, batches, 'load'), 'Keras': peer('keras', 'keras_training.py', folder, SIZE, batches, 'load')}
    return found


def training(films):
    table, n = films.with_suffix('.csv'), 8
    return {'bonefrac': ours(TRAIN, table, SIZE, n, '{}', 'whole'), 'bonefrac, body frozen': ours(TRAIN, table, SIZE, n, '{}', 'frozen'),
            'bonefrac without augmentation': ours(TRAIN, table, SIZE, n, '{"augment": false}', 'whole'), 'bonefrac in fp32': ours(TRAIN, table, SIZE, n, '{"precision": "fp32"}', 'whole'),
            'fastai': peer('fastai', 'fastai_training.py', films, SIZE, n, 'train'), 'Keras': peer('keras', 'keras_training.py', films, SIZE, n, 'train'), 'step only': ours(STEP, SIZE, n)}


BUNDLE = '''
import sys, warnings; warnings.filterwarnings('ignore')
from bonefrac.datasets import read_dataset
from bonefrac.export import export_bundle
from bonefrac.training import fracture_learner
export_bundle(fracture_learner(read_dataset(sys.argv[1]).films, size=int(sys.argv[2]), weights='none', quiet=True), sys.argv[3], 'untrained')
print('{}')
'''


def a_bundle(films, out):
    "An untrained MobileNetV2: answers cost the same"
    ours(BUNDLE, films.with_suffix('.csv'), SIZE, out)
    return out


def prediction(films, bundle, folder):
    files = sorted(films.rglob('*.*'))
    np.save(folder/'squares.npy', np.stack([read_square(f, SIZE) for f in files[:256]]))
    return {'bonefrac': ours(PREDICT, bundle, films), 'engine alone, arrays in memory': peer('engines', 'engines.py', bundle/'model.onnx', folder/'squares.npy'),
            'fastai': peer('fastai', 'fastai_prediction.py', films, SIZE, 64), 'PyTorch with timm': peer('fastai', 'torch_prediction.py', films, SIZE), 'Keras': peer('keras', 'keras_prediction.py', films, SIZE)}


def start(films, bundle):
    "Seconds from the shell to the answer, the median of five; and what fastai takes to be imported"
    film, command = next(films.rglob('*.*')), Path(sys.executable).with_name('bonefrac')
    median = lambda words: sorted(measured(words)[0] for _ in range(5))[2]
    return {'bonefrac predict, one film': median([command, 'predict', film, '--bundle', bundle]), 'import fastai.vision.all': median([peer_python('fastai', *PEERS['fastai']), '-c', 'import fastai.vision.all'])}


def growth(films, bundle):
    "Films a second and peak memory for one to eight thousand films, prediction"
    files, rows = sorted(films.rglob('*.*')), []
    for n in (1000, 2000, 4000, 8000):
        code = 'import sys, time, json\nfrom bonefrac.prediction import Predictor\nask = Predictor(sys.argv[1]); files = json.load(open(sys.argv[2])); t = time.perf_counter(); n = sum(1 for _ in ask.stream(files))\nprint(json.dumps(dict(films=n, seconds=round(time.perf_counter() - t, 1))))'
        names = films.with_suffix('.json')
        names.write_text(json.dumps([str(files[i % len(files)]) for i in range(n)]))
        rows.append(ours(code, bundle, names))
    return rows


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', default=['loading', 'training', 'prediction', 'start', 'growth'])
    parser.add_argument('--films', type=int, default=1000)
    args, began = parser.parse_args(), time.time()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.environ['BONEFRAC_CACHE'] = str(folder/'cache')
        films = folder/'films'
        real_films(args.films, films)
        bundle = a_bundle(films, folder/'bundle') if {'prediction', 'start', 'growth'} & set(args.only) else None
        steps = dict(loading=lambda: loading(films, large_films(128, folder/'large')), training=lambda: training(films), prediction=lambda: prediction(films, bundle, folder), start=lambda: start(films, bundle), growth=lambda: growth(films, bundle))
        found = {}
        for name in args.only:
            print(name, file=sys.stderr, flush=True)
            found[name] = steps[name]()
        save('speed', size=SIZE, films=args.films, minutes=round((time.time() - began) / 60, 1), **found)
