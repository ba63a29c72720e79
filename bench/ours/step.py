"""The bare training step on random numbers that are in memory already: no loader, no augmentation, no fastai.

Prints images a second of each setting added to the ones before it; with 'compiled', of the step before and after torch.compile.
"""
import json
import sys
import time
from types import SimpleNamespace

import torch

from bonefrac.models import fracture_model
from bonefrac.training import KeepMemory, precision_callbacks

size, batches, device = int(sys.argv[1]), int(sys.argv[2]), torch.device('cpu')
x, y = torch.rand(32, 1, size, size), torch.randint(0, 2, (32,))
keep = KeepMemory()
keep.learn = SimpleNamespace(dls=SimpleNamespace(device=device))


def steps(last=True, kept=True, bf16=False, compiled=False):
    "(images a second, seconds of the first step)"
    net, times = fracture_model(pretrained=False).train(), []
    if last: net = net.to(memory_format=torch.channels_last)
    if kept: keep('before_fit')
    opt, ask = torch.optim.AdamW(net.parameters()), torch.compile(net) if compiled else net
    for _ in range(batches + 2):
        start = time.perf_counter()
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16): loss = torch.nn.functional.cross_entropy(ask(x).float(), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        times.append(time.perf_counter() - start)
    return round(32 / sorted(times[2:])[batches // 2], 2), round(times[0])


if 'compiled' in sys.argv:
    eager, (quick, seconds) = steps()[0], steps(compiled=True)
    found = {'size': size, 'eager': eager, 'compiled': quick, 'seconds to compile': seconds}
else:
    found = {'as PyTorch comes': steps(False, False)[0], 'and channels last': steps(True, False)[0], 'and memory kept': steps()[0]}
    if torch.cpu._is_avx512_bf16_supported() or precision_callbacks(device): found['and bfloat16'] = steps(bf16=True)[0]
print(json.dumps(found))
