"A bundle of an untrained MobileNetV2: its predictions take as long as those of a trained one"
import sys

from bonefrac.dataloaders import FractureDataLoaders
from bonefrac.datasets import read_dataset
from bonefrac.export import export_bundle
from bonefrac.training import fracture_learner

table, size, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dls = FractureDataLoaders.from_df(read_dataset(table).images, size=size, quiet=True)
export_bundle(fracture_learner(dls, pretrained=False), out, 'untrained')
print('{}')
