"fastai's idioms on bonefrac's loaders and learners, of two classes and of ten: what each returns"
import os
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from fastai.vision.all import (
    CSVLogger, CategoryBlock, ClassificationInterpretation, ColReader, CutMix, DataBlock, EarlyStoppingCallback,
    F1Score, FocalLossFlat, Learner, MixUp, ProgressCallback, RocAucBinary, SaveModelCallback, accuracy, error_rate,
    load_learner, noop, params, resnet18, vision_learner)
from scipy.special import logit

import bonefrac.export  # noqa: F401, gives `Learner.to_bundle`
from bonefrac.augment import TensorRadiograph
from bonefrac.dataloaders import FractureDataLoaders, RadiographBlock
from bonefrac.interpretation import FractureInterpretation
from bonefrac.metrics import EvaluationError
from bonefrac.phantoms import phantom, phantom_dataset
from bonefrac.prediction import Predictor
from bonefrac.training import fracture_learner

matplotlib.use('agg')
import matplotlib.pyplot as plt  # noqa: E402

SIZE = 64


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    "Images table of 150 phantoms"
    os.environ.setdefault('BONEFRAC_CACHE', str(tmp_path_factory.mktemp('cache')))
    return phantom_dataset(150, tmp_path_factory.mktemp('phantoms'), size=96, seed=2)[0]


@pytest.fixture(scope='module')
def of_types(images):
    "The fractures, each type in every split"
    fractured = images[images.label == 'fractured']
    nth = fractured.groupby('fracture_type').cumcount() % 4
    return fractured.assign(split=np.select([nth == 1, nth == 3], ['valid', 'test'], 'train'), group='')


@pytest.fixture(scope='module', params=['label', 'fracture_type'])
def target(request):
    return request.param


@pytest.fixture(scope='module')
def table(target, images, of_types):
    return images if target == 'label' else of_types


@pytest.fixture(scope='module')
def make_dls(table, target, tmp_path_factory):
    folder = tmp_path_factory.mktemp('learner')
    return lambda **kwargs: FractureDataLoaders.from_df(
        table, **dict(size=SIZE, bs=16, target=target, quiet=True, path=folder, device='cpu') | kwargs)


@pytest.fixture(scope='module')
def learn(make_dls):
    "A learner after two epochs; tests leave its weights as they are"
    learn = quiet(fracture_learner(make_dls(), 'small_cnn', pretrained=False))
    learn.fit_one_cycle(2, 3e-3)
    return learn


@pytest.fixture
def fresh(make_dls, tmp_path):
    "A function that makes a learner to train"
    def fresh(**kwargs):
        return quiet(fracture_learner(make_dls(path=tmp_path), 'small_cnn', pretrained=False, **kwargs))
    return fresh


@pytest.fixture(scope='module')
def bundle(learn, tmp_path_factory):
    return learn.to_bundle(tmp_path_factory.mktemp('run')/'bundle')


@pytest.fixture(autouse=True)
def no_figures():
    yield
    plt.close('all')


def quiet(learn):
    "Without bars and tables, for good"
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


def weights(model): return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def titles(): return [ax.get_title() for ax in plt.gcf().axes if ax.get_title()]


# ---- loaders ----

def test_classes_of_the_loaders(learn, table, target):
    dls = learn.dls
    assert dls.c == len(dls.vocab) == table[target].nunique() in (2, 10)
    assert [dls.vocab.o2i[name] for name in dls.vocab] == list(range(dls.c))
    assert list(dls.train_ds.items.path) == list(table.path[table.split == 'train'])
    assert dls.test.images.split.eq('test').all()


def test_one_batch(learn):
    x, y = learn.dls.one_batch()
    assert isinstance(x, TensorRadiograph) and x.shape == (16, 1, SIZE, SIZE) and y.shape == (16,)
    assert 0 <= x.min() and x.max() <= 1 and 0 <= y.min() and y.max() < learn.dls.c


def test_show_batch(learn):
    learn.dls.show_batch(max_n=6)
    assert len(titles()) == 6 and set(titles()) <= set(learn.dls.vocab)


def test_decode_batch(learn):
    batch = learn.dls.valid.one_batch()
    names = [name for _, name in learn.dls.valid.decode_batch(batch, max_n=5)]
    assert names == learn.dls.valid.images[learn.dls.target].tolist()[:5]


def test_new_loaders(learn):
    other = learn.dls.valid.new(bs=3)
    assert len(other.one_batch()[0]) == 3 and other.vocab == learn.dls.vocab
    assert torch.equal(other.one_batch()[1], learn.dls.valid.one_batch()[1][:3])
    assert learn.dls.new(learn.dls.valid_ds).images.path.tolist() == learn.dls.valid.images.path.tolist()


def test_device_by_name(make_dls):
    dls = make_dls(device='cpu')
    assert dls.device == torch.device('cpu') == dls.to('cpu').device
    assert fracture_learner(dls, 'small_cnn', pretrained=False).dls.one_batch()[0].device.type == 'cpu'


def test_data_block(images):
    block = DataBlock(
        (RadiographBlock(SIZE), CategoryBlock), get_x=ColReader('path'), get_y=ColReader('label'),
        splitter=lambda t: [np.flatnonzero(t.split == split).tolist() for split in ('train', 'valid')])
    dls = block.dataloaders(images, bs=8, device=torch.device('cpu'), num_workers=0)
    assert dls.one_batch()[0].shape == (8, 1, SIZE, SIZE) and list(dls.vocab) == ['fractured', 'not fractured']
    valid = images[images.split == 'valid']
    assert [dls.vocab[i] for i in dls.valid.one_batch()[1]] == valid.label.tolist()[:8]


# ---- predictions ----

def test_get_preds(learn):
    p, y = learn.get_preds()
    assert p.shape == (len(learn.dls.valid_ds), learn.dls.c) and torch.allclose(p.sum(1), torch.ones(len(p)))
    assert [learn.dls.vocab[i] for i in y] == learn.dls.valid.images[learn.dls.target].tolist()


def test_get_preds_of_test(learn):
    p, y = learn.get_preds(ds_idx=2)
    by_loader, same = learn.get_preds(dl=learn.dls.test)
    assert torch.equal(p, by_loader) and torch.equal(y, same) and len(p) == len(learn.dls.test.images)
    p, y, decoded, losses = learn.get_preds(ds_idx=2, with_decoded=True, with_loss=True)
    assert torch.equal(decoded, p.argmax(1))
    assert torch.allclose(losses, -p[range(len(p)), y].log(), atol=1e-4)


def test_test_dl(learn):
    images, target = learn.dls.test.images, learn.dls.target
    p, y = learn.get_preds(dl=learn.dls.test)
    unlabelled, none = learn.get_preds(dl=learn.dls.test_dl(images.path.tolist()))
    labelled, same = learn.get_preds(dl=learn.dls.test_dl(images[['path', target]], with_labels=True))
    assert none is None and torch.equal(same, y)
    assert torch.allclose(unlabelled, p, atol=1e-6) and torch.allclose(labelled, p, atol=1e-6)


def test_predict(learn):
    p, _ = learn.get_preds(ds_idx=2)
    name, number, probabilities = learn.predict(learn.dls.test.images.path.iloc[4])
    assert name == learn.dls.vocab[number] and torch.allclose(probabilities, p[4], atol=1e-6)


def test_predictions_are_the_predictors(learn, bundle):
    "Calibration scales the log-odds of a learner, and shifts them where there are two classes"
    p, _ = learn.get_preds(ds_idx=2)
    findings = Predictor(bundle, check_input=False).findings(learn.dls.test.images, quiet=True)
    ours = findings[[f'p_{name}' for name in learn.dls.vocab]].to_numpy()
    temperature = bundle.config['temperature']
    if learn.dls.c == 2:
        shift = temperature * logit(ours[:, 1]) - logit(p[:, 1].double().numpy())
        assert np.ptp(shift) < .02
    else:
        expected = (p.double().log() / temperature).softmax(1)
        assert np.allclose(ours, expected, atol=2e-3)


def test_tta(learn):
    (augmented, plain), y = learn.tta(n=2, beta=None)[0], learn.get_preds()[1]
    assert torch.allclose(plain, learn.get_preds()[0], atol=1e-6) and not torch.allclose(augmented, plain)
    p, same = learn.tta(n=2)
    assert torch.equal(same, y) and torch.allclose(p.sum(1), torch.ones(len(p)), atol=1e-5)


def test_show_results(learn):
    learn.show_results(max_n=4)
    assert len(titles()) == 4
    assert all(name in learn.dls.vocab for title in titles() for name in title.split('\n'))


def test_validate(learn):
    loss, correct, auroc = learn.validate()
    p, y = learn.get_preds()
    assert correct == pytest.approx((p.argmax(1) == y).float().mean().item())
    assert loss == pytest.approx(-p[range(len(p)), y].log().mean().item(), abs=1e-4) and 0 <= auroc <= 1
    assert learn.validate(ds_idx=2)[0] != loss and len(learn.validate(dl=learn.dls.test)) == 3


# ---- training ----

def test_summary(learn):
    total = sum(p.numel() for p in learn.model.parameters())
    assert f'Total params: {total:,}' in learn.summary()


def test_lr_find(fresh):
    learn = fresh()
    before = weights(learn.model)
    found = learn.lr_find(num_it=12)
    assert 1e-8 < found.valley < 10 and torch.equal(weights(learn.model), before)


def test_fine_tune(fresh):
    learn = fresh()
    learn.fine_tune(1, freeze_epochs=1)
    assert learn.recorder.epoch == 0 and len(learn.recorder.values) == 1 and learn.opt.frozen_idx == 0
    assert learn.recorder.metric_names == ['epoch', 'train_loss', 'valid_loss', 'accuracy', 'auroc', 'time']


def test_recorder(fresh):
    learn = fresh()
    learn.fit(2, 1e-3)
    train_loss, valid_loss, correct, auroc = learn.recorder.values[-1]
    assert train_loss > 0 and len(learn.recorder.losses) == 2 * len(learn.dls.train)
    learn.recorder.plot_loss(skip_start=0)
    valid = [line.get_ydata() for line in plt.gca().lines][1]
    assert list(valid) == pytest.approx([values[1] for values in learn.recorder.values])
    assert [valid_loss, correct, auroc] == pytest.approx(list(learn.validate()), abs=1e-4)


def test_freeze(fresh):
    learn = fresh()
    learn.freeze()
    backbone, head = weights(learn.model.backbone), weights(learn.model.head)
    learn.fit(1)
    assert torch.equal(weights(learn.model.backbone), backbone)
    assert not torch.equal(weights(learn.model.head), head)
    learn.unfreeze()
    learn.fit(1)
    assert not torch.equal(weights(learn.model.backbone), backbone)


def test_discriminative_rates(fresh):
    learn = fresh(lr=1e-3)
    learn.fit_one_cycle(1, slice(1e-5, 1e-3))
    rates = [group['lr'] for group in learn.opt.hypers]
    assert len(rates) > 1 and rates[-1] == pytest.approx(100 * rates[0])


def test_save_and_load(learn, fresh):
    other = fresh()
    file = learn.save('weights')
    assert Path(file) == learn.path/'models'/'weights.pth'
    other.load(Path(file).with_suffix(''))
    assert torch.equal(weights(other.model), weights(learn.model)) and other.validate() == learn.validate()


def test_export_and_load(learn):
    learn.export('learner.pkl')
    with pytest.warns(UserWarning, match='insecure pickle'):
        loaded = quiet(load_learner(learn.path/'learner.pkl'))
    path = learn.dls.test.images.path.iloc[0]
    before, after = learn.predict(path), loaded.predict(path)
    assert after[0] == before[0] and torch.allclose(after[2], before[2], atol=1e-6)
    assert loaded.dls.vocab == learn.dls.vocab and len(loaded.dls.images) == 0


@pytest.mark.parametrize('precision', ['to_bf16', 'to_fp16'])
def test_half_precision(fresh, precision):
    if precision == 'to_fp16' and not torch.cuda.is_available():
        pytest.skip('fastai scales gradients in half precision on CUDA only')
    learn = getattr(fresh(precision='fp32'), precision)()
    learn.fit(1)
    assert np.isfinite(learn.validate()[0]) and next(learn.model.parameters()).dtype == torch.float32


# ---- parts of one's own ----

def test_callbacks(fresh):
    best = SaveModelCallback(monitor='valid_loss', fname='best')
    stop = EarlyStoppingCallback(monitor='valid_loss', min_delta=10, patience=0)
    learn = fresh(cbs=[best, stop, CSVLogger()])
    learn.fit(3, 1e-4)
    log = pd.read_csv(learn.path/'history.csv')
    assert 1 <= len(log) < 3 and log.columns.tolist() == learn.recorder.metric_names
    assert log.valid_loss.min() == pytest.approx(best.best, abs=1e-5) and (learn.path/'models'/'best.pth').is_file()


def test_metrics_of_ones_own(fresh):
    f1 = F1Score(average='macro')
    learn = fresh(metrics=[error_rate, f1, RocAucBinary()] if fresh().dls.c == 2 else [error_rate, f1])
    learn.fit(1)
    p, y = learn.get_preds()
    values = learn.validate()
    assert values[1] == pytest.approx((p.argmax(1) != y).float().mean().item())
    from sklearn.metrics import f1_score, roc_auc_score
    assert values[2] == pytest.approx(f1_score(y, p.argmax(1), average='macro'))
    assert len(values) == 3 or values[3] == pytest.approx(roc_auc_score(y, p[:, 1]), abs=1e-6)


def test_loss_of_ones_own(fresh):
    learn = fresh(loss_func=FocalLossFlat(gamma=2))
    p, y = learn.get_preds()
    of_label = p[range(len(p)), y]
    assert learn.validate()[0] == pytest.approx((-(1 - of_label)**2 * of_label.log()).mean().item(), abs=1e-4)
    learn.fit(1)


def test_splitter_of_ones_own(fresh):
    learn = fresh(splitter=lambda model: [params(model.backbone[0]), params(model.backbone[1:]), params(model.head)])
    learn.freeze_to(1)
    first = weights(learn.model.backbone[0])
    learn.fit(1)
    assert len(learn.opt.param_lists) == 3 and torch.equal(weights(learn.model.backbone[0]), first)


@pytest.mark.parametrize('blend', [MixUp, CutMix])
def test_blends(fresh, blend):
    learn = fresh(cbs=blend(1.))
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[0]).all() and len(learn.get_preds()[0]) == len(learn.dls.valid_ds)


def test_vision_learner(make_dls, tmp_path):
    dls = make_dls(path=tmp_path, bs=32)
    learn = quiet(vision_learner(dls, resnet18, n_in=1, n_out=dls.c, pretrained=False, metrics=accuracy))
    learn.fit_one_cycle(1)
    p, y = learn.get_preds()
    assert learn.validate()[1] == pytest.approx((p.argmax(1) == y).float().mean().item())
    interp = FractureInterpretation.from_learner(learn)
    assert interp.findings().path.tolist() == dls.valid.images.path.tolist()
    interp.plot_top_losses(3)   # fastai's plot: the model has no evidence map
    assert len(titles()) >= 3 and interp.review(tmp_path/'decisions.csv').predictor is None


# ---- interpretation ----

@pytest.fixture(scope='module', params=[ClassificationInterpretation, FractureInterpretation])
def interp(request, learn):
    return request.param.from_learner(learn)


def test_confusion_matrix(interp, learn):
    p, y = learn.get_preds()
    matrix = interp.confusion_matrix()
    assert matrix.trace() == (p.argmax(1) == y).sum() and matrix.sum(1).tolist() == y.bincount(minlength=p.shape[1]).tolist()
    interp.plot_confusion_matrix()
    shown = plt.gca().get_yticklabels()
    assert [label.get_text() for label in shown] == list(learn.dls.vocab)


def test_most_confused(interp):
    matrix, o2i = interp.confusion_matrix(), interp.vocab.o2i
    confused = interp.most_confused()
    assert all(matrix[o2i[actual], o2i[predicted]] == n > 0 for actual, predicted, n in confused)
    assert sum(n for *_, n in confused) == matrix.sum() - matrix.trace()


def test_classification_report(interp, capsys):
    interp.print_classification_report()
    printed = capsys.readouterr().out
    assert all(name in printed for name in interp.vocab) and 'macro avg' in printed


def test_top_losses(interp, learn):
    losses, rows, items = interp.top_losses(5, items=True)
    p, y = learn.get_preds()
    every = -p[range(len(p)), y].log()
    assert torch.allclose(torch.Tensor(losses), every.topk(5).values, atol=1e-4)
    assert items.path.tolist() == learn.dls.valid.images.path.iloc[rows.tolist()].tolist()
    interp.plot_top_losses(9)
    assert len([title for title in titles() if f'{losses[0].item():.2f}' in title]) >= 1


def test_findings_and_evaluation(learn):
    interp = FractureInterpretation.from_learner(learn, ds_idx=2)
    findings, evaluation = interp.findings(), interp.evaluation(resamples=100)
    p, y = learn.get_preds(ds_idx=2)
    assert np.allclose(findings[[f'p_{name}' for name in learn.dls.vocab]], p, atol=1e-6)
    assert not findings.in_training.any()
    assert evaluation['n'] == len(p) and set(evaluation.table()) == {'value', 'low', 'high'}
    if learn.dls.c == 10:
        assert interp.operating_points == {} and set(findings.answer) <= set(learn.dls.vocab)
        return
    points = interp.operating_points
    doubt = (p[:, 1] >= points['rule_out']) & (p[:, 1] < points['rule_in'])
    assert (findings.answer == 'doubt').tolist() == doubt.tolist()
    assert evaluation['selective_metrics']['doubt'] == pytest.approx(doubt.float().mean().item())


def test_interpretation_of_training_images(learn):
    interp = FractureInterpretation.from_learner(learn, ds_idx=0)
    again = FractureInterpretation.from_learner(learn, ds_idx=0)
    assert torch.equal(interp.losses, again.losses)   # the images as they are, not augmented
    assert interp.findings().in_training.all()


def test_worklist_and_review(learn, tmp_path):
    interp = FractureInterpretation.from_learner(learn)
    work = interp.worklist()
    assert sorted(work.path) == sorted(learn.dls.valid.images.path) and work.loss.max() == pytest.approx(
        interp.losses.max().item(), abs=1e-3)
    review = interp.review(tmp_path/'decisions.csv', n=5)
    assert review.image.path == work.path[0] and review.png().startswith(b'\x89PNG')
    review.decide('unclear')
    assert pd.read_csv(tmp_path/'decisions.csv').path.tolist() == [work.path[0]]


def test_interpretation_needs_an_images_table(images):
    block = DataBlock((RadiographBlock(SIZE), CategoryBlock), get_x=ColReader('path'), get_y=ColReader('label'))
    dls = block.dataloaders(images.head(20), bs=4, num_workers=0, device=torch.device('cpu'))
    learn = Learner(dls, torch.nn.Flatten(), loss_func=torch.nn.CrossEntropyLoss())
    with pytest.raises(EvaluationError, match='FractureDataLoaders'):
        FractureInterpretation.from_learner(learn)


# ---- the ten lines ----

TEN_LINES = """
from bonefrac.all import *                                    # like fastai.vision.all; fastai's names come along

dls   = FractureDataLoaders.from_df(images, size=320)         # also .from_folder, .from_csv; audited, grouped, cached
dls.show_batch()
learn = fracture_learner(dls, 'mobilenetv2_100')              # shaped as vision_learner: a Learner, nothing less
learn.lr_find(); learn.fine_tune(8)                           # or learn.fit_recipe(8): one-cycle, EMA, resume, best checkpoint
interp = ClassificationInterpretation.from_learner(learn)
interp.plot_confusion_matrix(); interp.plot_top_losses(9)     # and every other idiom of fastai
bundle = learn.to_bundle('runs/mine/bundle')

Predictor(bundle).predict('hand.dcm').show()                  # one image in, one Prediction out
evaluation = Predictor(bundle).evaluate(dls.test)             # an Evaluation: .table() .plot_roc() .plot_confusion() .top_losses()
"""


def write_dicom(pixels, path):
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID, ds.Modality = pydicom.uid.generate_uid(), 'DX'
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, 'MONOCHROME2', 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = pixels.tobytes()
    ds.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize('lines', [
    pytest.param(TEN_LINES.replace("320", "64").replace("'mobilenetv2_100'", "'small_cnn'"), id='small'),
    pytest.param(TEN_LINES, id='as printed', marks=pytest.mark.slow)])
def test_ten_lines(lines, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dicom(phantom('hand', size=160, seed=1).pixels, tmp_path/'hand.dcm')
    few = images[(images.split != 'train') | (images.groupby(['split', 'label']).cumcount() < 2)]
    names = dict(images=few.reset_index(drop=True))
    exec(lines, names)
    assert names['dls'].size in (64, 320) and names['bundle'].classes == ['not fractured', 'fractured']
    assert names['Predictor'](names['bundle']).predict('hand.dcm').answer in ('no fracture', 'doubt', 'fracture', 'refused')
    evaluation = names['evaluation']
    assert evaluation['n'] + evaluation['n_refused'] == (images.split == 'test').sum()
    assert len(evaluation.table()) > 5 and len(evaluation.top_losses(3)) == 3
    evaluation.plot_roc(), evaluation.plot_confusion()


def test_all_keeps_the_names_of_fastai():
    import fastai.vision.all as fastai_names

    import bonefrac.all as ours
    same = [name for name in dir(fastai_names) if not name.startswith('_')]
    assert [name for name in same if getattr(ours, name) is not getattr(fastai_names, name)] == []
    assert {'FractureDataLoaders', 'fracture_learner', 'Predictor', 'Evaluation', 'FractureInterpretation', 'Review',
            'audit', 'phantom_dataset', *same} <= set(ours.__all__)
