"Plain PyTorch with timm: a Dataset, a DataLoader on both cores, inference mode. Prints images a second."
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

folder, size = Path(sys.argv[1]), int(sys.argv[2])


class Images(Dataset):
    files = sorted(folder.rglob('*.*'))
    def __len__(self): return len(self.files)
    def __getitem__(self, i): return torch.from_numpy(np.asarray(ImageOps.pad(Image.open(self.files[i]).convert('RGB'), (size, size)))).permute(2, 0, 1)


net = timm.create_model('mobilenetv2_100', num_classes=2).eval()
with torch.inference_mode():
    net(torch.zeros(32, 3, size, size))
    start = time.perf_counter()
    for x in DataLoader(Images(), 32, num_workers=os.cpu_count()): net(x.float() / 255)
    seconds = time.perf_counter() - start
print(json.dumps(dict(images_per_second=round(len(Images()) / seconds, 2))))
