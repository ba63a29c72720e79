"The cache, augmentation and DataLoaders: what of fastai works on them, and what a crash leaves behind"
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import CategoryMap, ColReader
from fastai.interpret import ClassificationInterpretation
from fastai.learner import Learner, load_learner
from fastai.metrics import accuracy
from fastai.torch_core import TensorCategory, TensorMultiCategory, set_seed
from fastai.vision.learner import vision_learner
from fastcore.basics import noop
from fasttransform import Transform
from torch import nn

import bonefrac.cache
import fastai.callback.progress   # noqa: F401, patches `no_bar`
import fastai.callback.schedule   # noqa: F401, patches `fit_one_cycle`
from bonefrac.augment import (LesionCrop, LesionMaps, RadiographAugment, TensorLesions, TensorRadiograph,
                              is_unannotated, letterboxed_box)
from bonefrac.cache import ImageCache, cached_images
from bonefrac.dataloaders import (FractureDataLoaders, FractureDL, RadiographBlock, balanced_weights,
                                  class_weights)
from bonefrac.datasets import DatasetError
from bonefrac.phantoms import phantom_dataset
from bonefrac.radiographs import RadiographError, read_letterboxed

SIZE = 64


@pytest.fixture(scope='module')
def phantoms(tmp_path_factory):
    return phantom_dataset(90, tmp_path_factory.mktemp('phantoms'), size=SIZE, seed=3)


@pytest.fixture(scope='module')
def images(phantoms):
    return phantoms[0]


@pytest.fixture(scope='module')
def boxes(phantoms):
    return phantoms[1]


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return ImageCache(SIZE, tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def make(images, cache):
    "Loaders of the phantoms; anything may be given anew"
    def make(table=images, **kwargs):
        return FractureDataLoaders.from_df(table, **{**dict(size=SIZE, bs=8, cache=cache, quiet=True, device='cpu'), **kwargs})
    return make


class TakeLesions(Callback):
    "What the callback that trains the evidence map does with a batch"
    def before_batch(self):
        self.learn.yb, self.lesions = self.yb[:1], self.yb[1:]


def small_model(n_classes):
    return nn.Sequential(nn.Conv2d(1, 8, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, n_classes))


@pytest.fixture
def images_of_types(images):
    "Ten fracture types, each in both splits"
    fractured = images[images.label == 'fractured']
    return fractured.assign(split=np.where(fractured.groupby('fracture_type').cumcount() % 3 == 1, 'valid', 'train'), group='')


@pytest.fixture(params=['label', 'fracture_type'])
def learn(request, make, images_of_types, images, tmp_path):
    "A learner that has seen a batch or two"
    set_seed(1)
    table = images if request.param == 'label' else images_of_types
    dls = make(table, target=request.param, path=tmp_path)
    learn = Learner(dls, small_model(dls.c), metrics=accuracy)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    return learn


@pytest.fixture(autouse=True)
def no_figures():
    import matplotlib.pyplot as plt
    yield
    plt.close('all')


# ---- fastai at home ----

def test_loaders_are_fastai(make, images):
    dls = make()
    assert isinstance(dls.vocab, CategoryMap) and dls.vocab.o2i == {'not fractured': 0, 'fractured': 1}
    assert dls.c == 2 and dls.n_inp == 1 and dls.loss_func is not None
    assert dls.size == SIZE and dls.target == 'label' and not dls.multi and dls.full is None
    assert dls.train_ds.items.split.eq('train').all() and dls.valid_ds.items.split.eq('valid').all()
    assert dls.valid_ds.items.iloc[0].path == images.path[images.split == 'valid'].iloc[0]
    assert isinstance(dls.new(), FractureDL) and isinstance(dls.train.new(), FractureDL)
    assert dls.test.images.split.eq('test').all()


def test_no_test_split_no_test_loader(make, images):
    assert make(images[images.split != 'test']).test is None


def test_predictions(learn):
    dls, valid = learn.dls, learn.dls.valid_ds.items
    with learn.no_bar():
        p, y = learn.get_preds()
    assert p.shape == (len(valid), dls.c) and torch.allclose(p.sum(1), torch.ones(len(p)))
    assert [dls.vocab[i] for i in y] == valid[dls.target].tolist()
    pixels = np.stack([read_letterboxed(path, SIZE) for path in valid.path])
    with torch.no_grad():
        expected = learn.model(torch.tensor(pixels)[:, None].float() / 255).softmax(1)
    assert torch.allclose(p, expected, atol=1e-5)


def test_predict_path_and_row(learn):
    dls, row = learn.dls, learn.dls.valid_ds.items.iloc[3]
    with learn.no_bar():
        p, _ = learn.get_preds()
        for item in (row.path, Path(row.path), row, row.to_dict()):
            answer, number, probabilities = learn.predict(item)
            assert answer == dls.vocab[number] and probabilities.shape == (dls.c,)
            assert torch.allclose(probabilities, p[3], atol=1e-6)


def test_test_dl(learn):
    dls, valid = learn.dls, learn.dls.valid_ds.items
    with learn.no_bar():
        p, y = learn.get_preds()
        by_paths, none = learn.get_preds(dl=dls.test_dl(valid.path.tolist()))
        by_table, same = learn.get_preds(dl=dls.test_dl(valid[['path', dls.target]], with_labels=True))
    assert none is None and torch.equal(y, same)
    assert torch.allclose(by_paths, p, atol=1e-6) and torch.allclose(by_table, p, atol=1e-6)


def test_test_dl_refuses_what_it_cannot_read(make, images, tmp_path):
    (tmp_path/'broken.png').write_bytes(Path(images.path[0]).read_bytes()[:500])
    with pytest.raises(RadiographError, match='broken.png: truncated'):
        make().test_dl([images.path[0], tmp_path/'broken.png'])
    with pytest.raises(DatasetError, match="'cracked' is none of the classes"):
        make().test_dl(images.assign(label='cracked'), with_labels=True)


def test_tta_augments(learn):
    with learn.no_bar():
        p, y = learn.tta(n=2, beta=None)[0], learn.get_preds()[1]
        augmented, plain = p
        assert augmented.shape == plain.shape == (len(y), learn.dls.c)
        assert not torch.allclose(augmented, plain, atol=1e-5)
        assert torch.allclose(plain, learn.get_preds()[0], atol=1e-6)   # afterwards validation is not augmented


def test_shows(learn):
    with learn.no_bar():
        learn.dls.show_batch(max_n=4)
        learn.dls.show_batch(max_n=4, unique=True)
        learn.show_results(max_n=4)


def test_interpretation(learn):
    with learn.no_bar():
        interp = ClassificationInterpretation.from_learner(learn)
        matrix = interp.confusion_matrix()
        assert matrix.shape == (learn.dls.c, learn.dls.c)
        counts = learn.dls.valid_ds.items[learn.dls.target].value_counts()
        assert matrix.sum(1).tolist() == [counts.get(name, 0) for name in learn.dls.vocab]
        interp.plot_top_losses(4)
        _, _, items = interp.top_losses(3, items=True)
        assert items.path.isin(learn.dls.valid_ds.items.path).all()
        assert all(a in learn.dls.vocab and b in learn.dls.vocab for a, b, _ in interp.most_confused())


def test_export_and_load(learn, tmp_path, recwarn):
    path = learn.dls.valid_ds.items.path.iloc[0]
    with learn.no_bar():
        before = learn.predict(path)
        learn.export('learner.pkl')
        assert (tmp_path/'learner.pkl').stat().st_size < 200_000   # neither images nor boxes
        loaded = load_learner(tmp_path/'learner.pkl')
        with loaded.no_bar():
            after = loaded.predict(path)
    assert after[0] == before[0] and torch.allclose(after[2], before[2], atol=1e-6)
    assert loaded.dls.vocab == learn.dls.vocab and loaded.dls.size == SIZE


def test_vision_learner_trains(make, tmp_path):
    learn = vision_learner(make(path=tmp_path, bs=32), 'resnet18', n_in=1, pretrained=False, metrics=accuracy)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1)
        assert np.isfinite(learn.validate()[0]) and learn.predict(learn.dls.items.path.iloc[0])[0] in learn.dls.vocab


def test_data_block(images, cache):
    block = DataBlock(blocks=(RadiographBlock(SIZE, cache), CategoryBlock), get_x=ColReader('path'), get_y=ColReader('label'),
                      splitter=lambda t: [np.flatnonzero(t.split == s).tolist() for s in ('train', 'valid')])
    dls = block.dataloaders(images, bs=8, num_workers=0, device='cpu')
    x, y = dls.valid.one_batch()
    assert isinstance(x, TensorRadiograph) and x.shape == (8, 1, SIZE, SIZE)
    path = images.path[images.split == 'valid'].iloc[0]
    assert torch.equal((x[0, 0] * 255).round().byte().as_subclass(torch.Tensor), torch.tensor(read_letterboxed(path, SIZE)))
    learn = Learner(dls, small_model(2))
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        assert learn.predict(path)[0] in dls.vocab


# ---- batches ----

@pytest.mark.parametrize('target', ['label', 'labels'])
def test_item_path_gives_the_same_tensors(make, images, target):
    dls = make(images.assign(labels=images.label + ';' + images.region), target=target)
    whole = list(dls.valid)
    dls.valid.after_item.add(Transform(noop))
    by_item = list(dls.valid)
    assert len(whole) == len(by_item)
    for a, b in zip(whole, by_item):
        assert all(type(p) is type(q) and p.dtype == q.dtype and torch.equal(p, q) for p, q in zip(a, b))
    assert [type(o) for o in whole[0]] == [TensorRadiograph, TensorCategory if target == 'label' else TensorMultiCategory]


def test_several_findings(make, images):
    dls = make(images.assign(labels=images.label + ';' + images.region), target='labels')
    x, y = dls.valid.one_batch()
    assert dls.multi and dls.c == len(dls.vocab) == y.shape[1] and set(y.sum(1).tolist()) == {2.}
    learn = Learner(dls, small_model(dls.c))
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        assert set(learn.predict(images.path[0])[0]) <= set(dls.vocab)


def test_order_follows_the_generator(make):
    dls = make(augment=False)
    def epoch():
        dls.train.rng = random.Random(7)
        return torch.cat([y for _, y in dls.train]).tolist()
    assert epoch() == epoch()
    assert len(dls.train) == len(dls.train_ds) // 8


def test_building_loaders_twice_with_one_seed_gives_one_epoch(make):
    def epoch():
        set_seed(5)
        return torch.cat([x for x, _ in make().train])
    assert torch.equal(epoch(), epoch())


def test_augmentations_draw_nothing_in_validation(make):
    def state(**kwargs):
        valid = make(**kwargs).valid
        torch.manual_seed(3)
        list(valid)
        return torch.rand(1)
    assert torch.equal(state(), state(augment=False))


def test_balanced_sampling(make, images):
    rare = images[(images.label != 'fractured') | (images.split == 'valid') | (images.index % 4 == 0)]
    dls = make(rare, balanced_sampling=True)
    drawn = np.concatenate([dls.train.get_idxs() for _ in range(60)])
    assert abs(dls.train.targets[drawn].float().mean() - .5) < .06
    assert sorted(dls.train.new(shuffle=False).get_idxs()) == list(range(len(dls.train_ds)))
    rotated = pd.concat([images, *[images[images.split == 'train']] * 3]).assign(radiograph_id=lambda t: t.path)
    train = make(rotated, balanced_sampling=True).train
    assert len(list(train)) == len(train) == (images.split == 'train').sum() // 8   # an epoch is as long as there are radiographs


def test_balanced_weights_within_sources(images):
    copies = images[images.label == 'fractured'].assign(source='elsewhere', radiograph_id='one and the same')
    both = pd.concat([images.assign(radiograph_id=''), copies], ignore_index=True)
    often = pd.Series(balanced_weights(both)).groupby([both.source, both.label]).sum()
    assert np.allclose(often['phantoms'], len(images) / 2) and np.allclose(often['elsewhere'], 1)


def test_class_weights(make, images):
    dls = make(images[(images.label != 'fractured') | (images.split == 'valid') | (images.index % 4 == 0)])
    weights = class_weights(dls)
    assert abs(weights[dls.train.targets].mean() - 1) < 1e-4 and weights[1] > weights[0]


# ---- lesions ----

def test_lesions_follow_their_images(make, boxes):
    dls = make(boxes=boxes)
    x, y, lesions = dls.train.one_batch()
    assert isinstance(lesions, TensorLesions) and lesions.shape == (8, 2, SIZE, SIZE) and x.shape == (8, 1, SIZE, SIZE)
    assert torch.equal(lesions[:, 0].amax((1, 2)) > .5, (y == 1).as_subclass(torch.Tensor)) and not is_unannotated(lesions).any()
    assert len(dls.valid.one_batch()) == len(dls.test.one_batch()) == 2
    dls.show_batch(max_n=4)
    # the square that the lesion marks moves as the same square of the image does
    mark = torch.zeros(4, 2, SIZE, SIZE)
    mark[:, 0, 20:34, 18:40] = mark[:, 1] = 1
    for augment in (RadiographAugment(max_lighting=0), LesionCrop(48, max_lighting=0)):
        image, moved = augment((TensorRadiograph(mark[:, :1].clone()), TensorLesions(mark)), split_idx=0)
        assert torch.allclose(torch.Tensor(image), torch.Tensor(moved[:, :1]), atol=1e-4)


def test_unannotated_images_stay_so(make, images, boxes):
    elsewhere = images.assign(source=images.source.where(images.index % 2 == 0, 'elsewhere'))
    held = elsewhere.path[elsewhere.source == 'phantoms']
    dls = make(elsewhere, boxes=boxes[boxes.path.isin(held)], crop=48, bs=16)
    for loader in (dls.train, dls.full):
        order = loader.get_idxs()[:16]
        x, y, lesions = loader.new(get_idxs=lambda: order, bs=16).one_batch()
        from_elsewhere = dls.train_ds.items.source.iloc[order] == 'elsewhere'
        assert is_unannotated(lesions).tolist() == from_elsewhere.tolist()


def test_crops(make, boxes):
    dls = make(boxes=boxes, crop=48)
    assert dls.train.one_batch()[0].shape[2:] == (48, 48) and dls.valid.one_batch()[0].shape[2:] == (SIZE, SIZE)
    x, y, lesions = dls.full.one_batch()
    assert x.shape == (max(2, 8 * 48**2 // SIZE**2), 1, SIZE, SIZE) and lesions.shape[2:] == (SIZE, SIZE)
    with pytest.raises(DatasetError, match='labelled by the boxes'):
        make(crop=48)
    with pytest.raises(DatasetError, match='32 to 64 pixels'):
        make(boxes=boxes, crop=96)


def test_crops_lie_over_lesions_and_on_the_image():
    torch.manual_seed(1)
    crop = LesionCrop(64)
    images, lesions = torch.zeros(200, 1, 128, 128), torch.zeros(200, 2, 128, 128)
    images[:, :, :, 50:78], lesions[:, 0, 4:12, 55:65], lesions[:, 1] = .5, 1, 1
    _, seen = crop((TensorRadiograph(images.clone()), TensorLesions(lesions)), split_idx=0)
    assert .7 < (seen[:, 0].amax((1, 2)) > .5).float().mean() < .98
    at = crop.centres(images, None, .5)
    assert at[:, 0].abs().max() < .06 and at[:, 1].abs().max() > .5   # on the image, not on the bars


def test_crop_scale():
    crop = LesionCrop(64, False, 0, 1, 0, 0, p_lesion=0)
    ramp = TensorRadiograph(torch.arange(128.).expand(1, 1, 128, 128) / 256 + .2)
    def slope(lesions): return crop((ramp, TensorLesions(lesions)), split_idx=0)[0].diff(dim=3)[..., 8:-8, 8:-8]
    annotated, not_annotated = torch.zeros(1, 2, 128, 128), torch.zeros(1, 2, 128, 128)
    annotated[:, 1] = 1
    assert (slope(annotated) - 1 / 256).abs().max() < 1e-4        # at the image's own scale
    assert (slope(not_annotated) - 1 / 128).abs().max() < 1e-4    # the full image, shrunk to the size of the crop


def test_polygons_in_place_of_boxes():
    table = pd.DataFrame(dict(path=['a', 'b'], label='fractured', source='s', height=100, width=200))
    box = dict(path='a', x=.25, y=.25, w=.5, h=.5)
    ring = [.25, .25, .75, .25, .25, .75]
    def area(outline, path='a'):
        boxes = pd.DataFrame([box | dict(polygon=outline, path=path), box | dict(path='b', polygon='')])
        return int(LesionMaps(table, boxes, 200, 'label', ['no', 'fractured']).draw(0)[0].sum())
    assert area('') == area(None) == area(float('nan')) == 5000
    assert abs(area(json.dumps([ring])) - 2500) < 160
    assert area(json.dumps([ring])) == area(json.dumps(ring)) == area(json.dumps([ring, ring]))
    assert area(json.dumps([ring]), path='elsewhere') == 0


def test_augmentation(images):
    image = TensorRadiograph(torch.tensor(read_letterboxed(images.path[3], SIZE))[None, None].float() / 255)
    still, mirror = RadiographAugment(False, 0, 1, 0, 0), RadiographAugment(2, 0, 1, 0, 0)
    assert torch.allclose(still(image, split_idx=0), image, atol=1e-4)
    assert torch.allclose(mirror(image, split_idx=0), image.flip(3), atol=1e-4)
    assert torch.equal(still(image, split_idx=1), image)
    sides = [image.rot90(k, (2, 3)) for k in range(4)]
    laid = [RadiographAugment(False, 0, 1, 0, 0, p_rot90=1)(image, split_idx=0) for _ in range(24)]
    assert {k for o in laid for k, side in enumerate(sides) if (o - side).abs().max() < 1e-3} == {1, 2, 3}
    maps, light = RadiographAugment(max_rotate=15, max_zoom=1.15, max_lighting=.2, p_affine=1).draw(1000)
    assert .8 <= light[:, 1].min() < .85 and 1.2 < light[:, 1].max() <= 1.25
    assert abs(torch.linalg.det(maps[:, :2, :2]).abs().max().sqrt() - 1.15) < .01


def test_a_learner_with_boxes(make, boxes):
    learn = Learner(make(boxes=boxes), small_model(2), cbs=TakeLesions())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        assert learn.take_lesions.lesions == ()   # validation has none
        assert learn.get_preds(ds_idx=0)[0].shape == (len(learn.dls.train_ds), 2)
        learn.show_results(max_n=4)


# ---- tables, folders, CSVs ----

def test_from_folder_and_csv(images, boxes, cache, tmp_path):
    for row in images.head(60).itertuples():
        folder = tmp_path/'set'/row.label.replace(' ', '_')
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, folder)
    dls = FractureDataLoaders.from_folder(tmp_path/'set', size=SIZE, bs=8, cache=cache, quiet=True)
    assert dls.vocab == ['not fractured', 'fractured'] and len(dls.loaders) == 3
    images.to_csv(tmp_path/'images.csv', index=False)
    boxes.to_csv(tmp_path/'boxes.csv', index=False)
    dls = FractureDataLoaders.from_csv(tmp_path/'images.csv', size=SIZE, bs=8, cache=cache, boxes=True, quiet=True)
    assert len(dls.boxes) == len(boxes) and len(dls.train.one_batch()) == 3
    assert len(dls.train_ds) == (images.split == 'train').sum()


def test_a_bare_table_will_do(make, images):
    dls = make(images[['path', 'label', 'split']])
    assert len(dls.train_ds) == (images.split == 'train').sum()


def test_what_cannot_be_read_is_left_out(make, images, tmp_path):
    (tmp_path/'broken.png').write_bytes(b'nothing')
    dls = make(pd.concat([images, images.head(1).assign(path=str(tmp_path/'broken.png'))], ignore_index=True))
    last = dls.images.iloc[-1]
    assert not last.usable and last.issue and last.path not in set(dls.train_ds.items.path)


@pytest.mark.parametrize('change, message', [
    (lambda t: t[t.label == 'fractured'], 'two or more are needed'),
    (lambda t: t[(t.label == 'fractured') | (t.split == 'valid')], "no .*image of class not fractured .*in split 'train'"),
    (lambda t: t[(t.label == 'fractured') | (t.split == 'train')], "fewer than two classes in split 'valid'"),
    (lambda t: t.assign(group='patient-7'), "group 'patient-7' lies in test and train and valid"),
    (lambda t: t.drop(columns='label'), "no column 'label'")])
def test_refusals(make, images, change, message):
    with pytest.raises(DatasetError, match=message):
        make(change(images))


def test_letterboxed_box():
    assert letterboxed_box((.5, .5, .25, .25), (100, 200), 400) == (200, 200, 250, 300)
    assert letterboxed_box((0, 0, 1, 1), (200, 100), 400) == (0, 100, 400, 300)
    assert letterboxed_box((.5, .5, 0, 0), (100, 100), 100) == (50, 50, 51, 51)


# ---- the cache ----

def test_cache_of_another_size_is_refused(images, tmp_path):
    with pytest.raises(DatasetError, match='holds images of 32 pixels, not 64; give ImageCache'):
        FractureDataLoaders.from_df(images, size=64, cache=ImageCache(32, tmp_path), quiet=True)
    assert FractureDataLoaders.from_df(images, size=32, cache=tmp_path, quiet=True).size == 32


@pytest.mark.parametrize('left', [.5, 10.5, 10])
def test_a_cache_that_was_cut_short_heals(images, tmp_path, left):
    ImageCache(SIZE, tmp_path).add(images.path[:20], quiet=True)
    raw = ImageCache(SIZE, tmp_path).raw
    with open(raw, 'r+b') as f:
        f.truncate(int(left * SIZE**2))
    healed = ImageCache(SIZE, tmp_path)
    assert raw.stat().st_size % SIZE**2 == 0
    for path, slot in zip(images.path, healed.add(images.path[:20], quiet=True).slot):
        assert (healed.pixels[slot] == read_letterboxed(path, SIZE)).all()


def test_half_an_image_after_the_last_one(images, tmp_path):
    "What a full disk leaves behind: the entries are rolled back, part of an image stays"
    cache = ImageCache(SIZE, tmp_path)
    cache.add(images.path[:20], quiet=True)
    with open(cache.raw, 'ab') as f:
        f.write(bytes(SIZE**2 // 2))
    assert len(cache.pixels) == 20                               # also for those who have it open
    again = ImageCache(SIZE, tmp_path)
    assert len(again.pixels) == 20 and again.raw.stat().st_size == 20 * SIZE**2
    assert (again.add(images.path[:20], quiet=True).slot == np.arange(20)).all()


def test_a_full_disk(images, tmp_path, monkeypatch):
    cache, real = ImageCache(SIZE, tmp_path), np.ndarray.tobytes
    monkeypatch.setattr(bonefrac.cache, '_decoded', lambda path, size: (FullDisk(), None, 1, 1, True))
    with pytest.raises(OSError, match='No space'):
        cache.add(images.path[:3], quiet=True)
    monkeypatch.undo()
    assert (cache.add(images.path[:3], quiet=True).slot >= 0).all() and real is np.ndarray.tobytes


class FullDisk:
    def tobytes(self):
        raise OSError(28, 'No space left on device')


def test_one_bad_image_never_ends_a_run(images, tmp_path, monkeypatch):
    def decode(path, side=None):
        if str(path) == images.path[1]:
            raise MemoryError('cannot allocate 3 GB')
        return read(path, side=side)
    read = bonefrac.cache.read_radiograph
    monkeypatch.setattr(bonefrac.cache, 'read_radiograph', decode)
    table, cache = cached_images(images.head(4), SIZE, tmp_path, quiet=True)
    assert table.usable.tolist() == [True, False, True, True] and 'cannot allocate 3 GB' in table.issue[1]
    monkeypatch.undo()
    assert cached_images(images.head(4), cache=cache, quiet=True)[0].usable.all()   # such a reason is not kept


def test_reasons_are_kept(images, tmp_path, monkeypatch):
    broken = tmp_path/'broken.png'
    broken.write_bytes(Path(images.path[0]).read_bytes()[:500])
    cache = ImageCache(SIZE, tmp_path/'cache')
    first = cache.add([broken, tmp_path/'nowhere.png'], quiet=True)
    monkeypatch.setattr(bonefrac.cache, 'read_radiograph', None)
    assert cache.add([broken], quiet=True).reason[0] == first.reason[0] and 'truncated' in first.reason[0]
    assert 'no such file' in first.reason[1] and first.slot.tolist() == [-1, -1]


def test_changed_and_copied_files(images, tmp_path):
    cache, copy = ImageCache(SIZE, tmp_path/'cache'), tmp_path/'copy.png'
    slots = cache.add(images.path[:2], quiet=True).slot
    shutil.copy(images.path[0], copy)
    assert cache.add([copy], quiet=True).slot[0] == slots[0]
    assert (cache.image(copy) == cache.pixels[slots[0]]).all()
    shutil.copy(images.path[1], copy)
    assert cache.add([copy], quiet=True).slot[0] == slots[1]
    assert (cache.image(copy) == cache.pixels[slots[1]]).all()
    assert len(cache.pixels) == 2


def test_many_threads_ask_for_images(images, tmp_path):
    cache = ImageCache(SIZE, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(cache.image, images.path))
    assert all((a == read_letterboxed(path, SIZE)).all() for a, path in zip(found, images.path))
    assert len(cache.pixels) == len(images)


def test_filling_reads_no_whole_table(images, tmp_path, monkeypatch):
    "Else filling a cache takes time with the square of its size"
    statements, connect = [], ImageCache._database
    def traced(self):
        db = connect(self)
        db.set_trace_callback(statements.append)
        return db
    monkeypatch.setattr(ImageCache, '_database', traced)
    ImageCache(SIZE, tmp_path).add(images.path, quiet=True)
    read = [s for s in statements if s.startswith('select') and 'max(slot)' not in s]
    assert read and all(' where ' in s for s in read)
