"What a PyTorch user writes: ImageFolder, the usual transforms, a DataLoader on both cores. Prints images a second."
import json
import os
import sys
import time

from torch.utils.data import DataLoader
from torchvision import datasets, transforms

folder, size, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
images = datasets.ImageFolder(folder, transforms.Compose([transforms.Resize((size, size)), transforms.RandomHorizontalFlip(), transforms.RandomAffine(15, scale=(.87, 1.15)),
                                                         transforms.RandomPerspective(.1), transforms.ColorJitter(.2, .2), transforms.ToTensor()]))
for _ in range(2):
    start, n = time.perf_counter(), 0
    for x, _ in DataLoader(images, 32, shuffle=True, num_workers=os.cpu_count()):
        n += len(x)
        if n >= 32 * batches: break
print(json.dumps(dict(images_per_second=round(n / (time.perf_counter() - start), 2))))
