"A bundle of an untrained MobileNetV2: its answers cost what a trained one's do"
import sys

from bonefrac.datasets import read_dataset
from bonefrac.export import export_bundle
from bonefrac.training import fracture_learner

table, size, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
export_bundle(fracture_learner(read_dataset(table).images, size=size, pretrained=False, quiet=True), out, 'untrained')
print('{}')
