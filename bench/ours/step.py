"""The bare training step on random numbers in memory: no loader, no augmentation, no fastai.

Prints images per second, each setting added to those before it; with 'compiled', of the step before and after torch.compile.
"""
import json
import sys
import time
from types import SimpleNamespace

import torch

from bonefrac.callbacks import KeepMemory, precision_callbacks
from bonefrac.models import fracture_model

size, batches, device = int(sys.argv[1]), int(sys.argv[2]), torch.device('cpu')
x, y = torch.rand(32, 1, size, size), torch.randint(0, 2, (32,))
keep = KeepMemory()
keep.learn = SimpleNamespace(dls=SimpleNamespace(device=device))


def measure(channels_last=True, kept=True, bf16=False, compiled=False):
    "(images per second, seconds of the first step)"
    model, times = fracture_model(pretrained=False).train(), []
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if kept:
        keep('before_fit')
    optimiser = torch.optim.AdamW(model.parameters())
    forward = torch.compile(model) if compiled else model
    for _ in range(batches + 2):
        start = time.perf_counter()
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            logits = forward(x)
        torch.nn.functional.cross_entropy(logits.float(), y).backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - start)
    return round(32 / sorted(times[2:])[batches // 2], 2), round(times[0])


if 'compiled' in sys.argv:
    eager, (fast, seconds) = measure()[0], measure(compiled=True)
    found = {'size': size, 'eager': eager, 'compiled': fast, 'seconds to compile': seconds}
else:
    found = {'as PyTorch comes': measure(False, False)[0], 'and channels last': measure(True, False)[0],
             'and memory kept': measure()[0]}
    if torch.cpu._is_avx512_bf16_supported() or precision_callbacks(device):
        found['and bfloat16'] = measure(bf16=True)[0]
print(json.dumps(found))
