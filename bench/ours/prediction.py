"Images on disk to findings: a folder, and 200 images one by one. Prints images a second and milliseconds."
import json
import sys
import time
from pathlib import Path

import numpy as np

from bonefrac.prediction import Predictor

ask, files = Predictor(sys.argv[1]), sorted(Path(sys.argv[2]).rglob('*.*'))


def seconds(part):
    start = time.perf_counter()
    for _ in ask.stream(part): pass
    return time.perf_counter() - start


seconds(files[:32])
folder, single = seconds(files), [1e3 * seconds([f]) for f in files[:200]]
print(json.dumps(dict(images_per_second=round(len(files) / folder, 2), one_image_ms=dict(median=round(float(np.median(single)), 1), p99=round(float(np.percentile(single, 99)), 1)))))
