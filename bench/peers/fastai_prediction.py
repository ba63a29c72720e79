"learn.predict in a loop, and learn.get_preds, as a fastai user has them. Prints images a second of both."
import json
import sys
import time
from pathlib import Path

from fastai.vision.all import ImageDataLoaders, Resize, vision_learner

folder, size, looped = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
files = sorted(folder.rglob('*.*'))
dls = ImageDataLoaders.from_folder(folder, valid_pct=.1, seed=0, item_tfms=Resize(size, method='pad', pad_mode='zeros'), bs=32)
learn = vision_learner(dls, 'mobilenetv2_100', pretrained=False, normalize=False)


def rate(call, n):
    start = time.perf_counter()
    call()
    return round(n / (time.perf_counter() - start), 2)


with learn.no_bar(), learn.no_logging():
    learn.predict(files[0])
    loop = rate(lambda: [learn.predict(f) for f in files[:looped]], looped)
    batches = rate(lambda: learn.get_preds(dl=dls.test_dl(files, num_workers=0)), len(files))
print(json.dumps({'learn.predict': loop, 'learn.get_preds': batches}))
