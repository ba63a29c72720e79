"One pass over an images table, training or prediction: seconds, and how much of the memory is mapped files"
import json
import sys
import time

import pandas as pd

job, table, size, bundle = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
images = pd.read_csv(table, keep_default_na=False)
start = time.perf_counter()
if job == 'prediction':
    from bonefrac.prediction import Predictor
    for _ in Predictor(bundle).stream(images.path):
        pass
else:
    from bonefrac.dataloaders import FractureDataLoaders
    from bonefrac.training import fracture_learner
    learn = fracture_learner(FractureDataLoaders.from_df(images, size=size, quiet=True), pretrained=False)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
memory = dict(line.split(':') for line in open('/proc/self/status') if line.startswith('Rss'))
print(json.dumps(dict(images=len(images), seconds=round(time.perf_counter() - start, 1),
                      file_pages_MB=int(memory['RssFile'].split()[0]) // 1000)))
