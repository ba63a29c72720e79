"The default learner, its whole model or its head only: images per second of the median batch"
import json
import sys
import time

from fastai.callback.core import Callback, CancelFitException

from bonefrac.dataloaders import FractureDataLoaders
from bonefrac.datasets import read_dataset
from bonefrac.training import fracture_learner

table, size, batches, part = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


class Clock(Callback):
    order, times, end = 1000, [], None

    def after_batch(self):
        if not self.training:
            return
        now = time.perf_counter()
        if self.end:
            self.times.append(now - self.end)
        self.end = now
        if len(self.times) == batches + 2:
            raise CancelFitException()


dls = FractureDataLoaders.from_df(read_dataset(table).images, size=size, quiet=True)
learn = fracture_learner(dls, pretrained=False)
if part == 'head':
    learn.freeze()
with learn.no_bar(), learn.no_logging():
    learn.fit_one_cycle(9, 1e-3, cbs=Clock())
print(json.dumps(dict(images_per_second=round(32 / sorted(Clock.times[2:])[batches // 2], 2))))
