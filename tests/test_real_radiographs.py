"On real radiographs, where BONEFRAC_DATA names a folder that has them; CI sets it"
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DATA = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))
needs_data = pytest.mark.skipif(not (DATA/'fracatlas').is_dir(), reason='BONEFRAC_DATA names no folder with fracatlas: reading, training and deployment were not compared on real images')


@needs_data
def test_broken_images_are_the_known_ones(tmp_path):
    from bonefrac.dataloaders import ImageCache, cached_images
    from bonefrac.datasets import read_dataset
    for name, broken in (('fracatlas', 59), ('multiregion', 12), ('bonebreak10', 0)):
        images, _ = cached_images(read_dataset(DATA/name).images, cache=ImageCache(64, tmp_path), quiet=True)
        assert (~images.usable).sum() == broken, name
        assert images.issue[~images.usable].str.contains('truncated').all()


@needs_data
def test_training_and_deployment_agree_on_every_test_image(tmp_path):
    from bonefrac.dataloaders import FractureDataLoaders
    from bonefrac.splits import ensure_split
    from bonefrac.datasets import read_dataset
    from bonefrac.export import export_bundle
    from bonefrac.prediction import Predictor
    from bonefrac.training import fracture_learner, learner_probabilities
    images = ensure_split(read_dataset(DATA/'fracatlas').images)
    part = pd.concat([f.head(90) for _, f in images.groupby(['split', 'label'])])
    pretrained = (Path(os.environ.get('BONEFRAC_WEIGHTS', 'nowhere'))/'mobilenetv2_100.json').is_file()
    dls = FractureDataLoaders.from_df(part, 128, cache=tmp_path/'cache', quiet=True)
    learn = fracture_learner(dls, 'mobilenetv2_100', pretrained=pretrained)
    learn.fit_recipe(2, 1e-3, folder=tmp_path/'run', quiet=True)
    bundle = export_bundle(learn, tmp_path/'bundle', 'test', data='fracatlas')
    test = learn.dls.images[(learn.dls.images.split == 'test') & learn.dls.images.usable]
    predictor = Predictor(bundle)
    _, logits = learner_probabilities(learn, test)
    found = predictor.findings(test, quiet=True)
    odds = found['p_fractured'] / (1 - found['p_fractured'])
    shift = bundle.config['temperature'] * np.log(odds) - (logits[:, 1] - logits[:, 0])   # calibration adds the same to every image
    assert len(test) > 150 and np.abs(shift - shift.median()).max() < .02
    assert not found.in_training.any()
