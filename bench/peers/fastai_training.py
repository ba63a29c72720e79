"What a fastai user writes: the tutorial's loaders, augmentation and learner, nothing else. Prints images a second."
import json
import sys
import time

import torch
from fastai.vision.all import Callback, ImageDataLoaders, Resize, aug_transforms, vision_learner

folder, size, batches, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
dls = ImageDataLoaders.from_folder(folder, valid_pct=.1, seed=0, item_tfms=Resize(size, method='pad', pad_mode='zeros'), batch_tfms=aug_transforms(), bs=32)


def rate(batch_times): return round(32 / sorted(batch_times)[len(batch_times) // 2], 2)


if mode == 'load':
    for _ in range(2):   # the first round fills the file system's cache
        start, n = time.perf_counter(), 0
        for x, _ in dls.train:
            n += len(x)
            if n >= 32 * batches: break
    print(json.dumps(dict(images_per_second=round(n / (time.perf_counter() - start), 2))))
else:
    class Clock(Callback):
        times = []
        def before_batch(self): self.start = getattr(self, 'end', None)
        def after_batch(self):
            self.end = time.perf_counter()
            if self.start: self.times.append(self.end - self.start)
            if len(self.times) >= batches: raise KeyboardInterrupt

    learn = vision_learner(dls, 'mobilenetv2_100', pretrained=False, normalize=False)
    learn.unfreeze()
    try:
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(5, cbs=Clock())
    except KeyboardInterrupt: pass
    print(json.dumps(dict(images_per_second=rate(Clock.times), torch=torch.__version__)))
