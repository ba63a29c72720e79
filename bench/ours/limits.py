"Operations and bytes that an image takes, and those that the machine can do. Each operation counts what it reads and writes."
import json
import sys
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bonefrac.models import fracture_model

size, n = int(sys.argv[1]), 4


class Traffic(TorchDispatchMode):
    "Counts the bytes that operations read and write"
    bytes = 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        if not op.is_view:
            self.bytes += sum(t.nbytes for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t))
        return out


def gigabytes(step):
    "Read and written per image"
    with Traffic() as traffic:
        step()
    return round(traffic.bytes / n / 1e9, 2)


def fastest(call, rounds=5):
    "Seconds"
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


model, x = fracture_model(pretrained=False).train(), torch.rand(n, 1, size, size)
a, source = torch.rand(2000, 2000), torch.rand(2**27)
target = torch.empty_like(source)
found = {'matrix product, GFLOP/s': round(2 * 2000**3 / fastest(lambda: a @ a) / 1e9),
         'copy, GB/s': round(2 * source.nbytes / fastest(lambda: target.copy_(source)) / 1e9, 1),
         'GB an image, training': gigabytes(lambda: model(x).sum().backward())}
model.eval()
with torch.inference_mode(), FlopCounterMode(display=False) as flops:
    found['GB an image, prediction'] = gigabytes(lambda: model(x))
found['GFLOP an image, prediction'] = round(flops.get_total_flops() / n / 1e9, 2)
print(json.dumps(found))
