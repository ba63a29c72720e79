"Augmented batches of 32 from a warm cache. Prints images a second."
import json
import sys
import time

from bonefrac.dataloaders import FractureDataLoaders
from bonefrac.datasets import read_dataset
from bonefrac.splits import draw_split

folder, size, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
images = draw_split(read_dataset(folder).images.assign(split='', group=''), .1, 0)
dls = FractureDataLoaders.from_df(images, size=size, bs=32, quiet=True)


def rate():
    n, start = 0, time.perf_counter()
    while n < 32 * batches:
        for x, _ in dls.train:
            n += len(x)
    return round(n / (time.perf_counter() - start), 2)


rate()   # the first round fills the file system's cache
print(json.dumps(dict(images_per_second=rate())))
