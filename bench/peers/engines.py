"What inference engines do on arrays that are in memory already: images a second of each engine and precision"
import json
import sys
import time

import numpy as np
import onnxruntime
import openvino as ov

model, arrays = sys.argv[1], np.load(sys.argv[2])[:, None]


def rate(ask, bs=16, rounds=3):
    ask(arrays[:bs])
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for i in range(0, len(arrays), bs): ask(arrays[i:i+bs])
        times.append(time.perf_counter() - start)
    return round(len(arrays) / min(times), 1)


session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
found = {'onnxruntime fp32': rate(lambda x: session.run(None, {'image': x}))}
core = ov.Core()
for name, kind in (('f32', ov.Type.f32), ('bf16', ov.Type.bf16)):
    compiled = core.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': kind, 'PERFORMANCE_HINT': 'LATENCY'})
    found[f'openvino {name}'] = rate(lambda x: compiled(x))
print(json.dumps(found))
