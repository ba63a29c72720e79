"The learner as it comes, its whole net or its head, the median batch. Prints images a second."
import json
import sys
import time

from fastai.callback.core import Callback, CancelFitException

from bonefrac.datasets import read_dataset
from bonefrac.training import fracture_learner

table, size, batches, part = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


class Clock(Callback):
    order, times, end = 1000, [], None
    def after_batch(self):
        if not self.training: return
        now = time.perf_counter()
        if self.end: self.times.append(now - self.end)
        self.end = now
        if len(self.times) == batches + 2: raise CancelFitException()


learn = fracture_learner(read_dataset(table).images, size=size, pretrained=False, quiet=True)
if part == 'head': learn.freeze()
with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(9, 1e-3, cbs=Clock())
print(json.dumps(dict(images_per_second=round(32 / sorted(Clock.times[2:])[batches // 2], 2))))
