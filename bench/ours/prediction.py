"Images on disk to findings: a folder, and 200 images one by one. Prints images per second and milliseconds."
import json
import sys
import time
from pathlib import Path

import numpy as np

from bonefrac.prediction import Predictor

predictor, files = Predictor(Path(sys.argv[1])), sorted(Path(sys.argv[2]).rglob('*.*'))


def seconds(paths):
    start = time.perf_counter()
    for _ in predictor.stream(paths): pass
    return time.perf_counter() - start


seconds(files[:32])   # warm up
folder = seconds(files)
single = [1e3 * seconds([path]) for path in files[:200]]
one = dict(median=round(float(np.median(single)), 1), p99=round(float(np.percentile(single, 99)), 1))
print(json.dumps(dict(images_per_second=round(len(files) / folder, 2), one_image_ms=one)))
