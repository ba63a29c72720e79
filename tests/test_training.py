"Training, where a notebook's own thread cannot show it"
import pickle
import resource
import sys
from types import SimpleNamespace

import pytest
import torch

from bonefrac.training import KeepMemory


def cleared_pages():
    "Pages that the kernel clears for twenty pieces of 64 MB, one after the other, as a net asks for them"
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20): torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc')
def test_memory_that_a_batch_frees_serves_the_next():
    keep = KeepMemory()
    keep.learn = SimpleNamespace(dls=SimpleNamespace(device=torch.device('cpu')))
    as_it_comes = cleared_pages()
    keep('before_fit')
    kept = cleared_pages()
    keep('after_fit')
    assert 5 * kept < as_it_comes


def test_a_learner_that_keeps_memory_can_be_exported():
    assert pickle.dumps(KeepMemory())   # what fastai's `Learner.export` does with every callback
