"The command line as a user meets it: real processes, exit codes, one line for every error"
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_demo_leaves_what_it_says(demo):
    metrics = json.loads((demo/'metrics.json').read_text())
    assert {'n', 'threshold', 'metrics', 'per_class', 'per_region', 'confusion', 'calibration'} <= set(metrics)
    assert set(metrics['metrics']) == set('accuracy balanced_accuracy sensitivity specificity precision npv f1 kappa top2 auroc average_precision brier ece log_loss'.split())
    assert {p.name for p in (demo/'audit').iterdir()} == {'images.csv', 'boxes.csv', 'audit.json', 'audit.html', 'signatures.sqlite'}
    assert np.array(metrics['confusion']['matrix']).sum() == metrics['n'] and metrics['n_in_training'] == 0
    assert {p.name for p in (demo/'bundle').iterdir()} == {'config.json', 'model.onnx', 'model.safetensors', 'ood.safetensors', 'README.md', 'training_images.txt'}
    for name in ('images.csv', 'history.csv', 'curves.png', 'findings.csv', 'report.html'): assert (demo/name).stat().st_size > 0, name
    page = (demo/'report.html').read_text()
    assert page.count('<svg') >= 6 and '://' not in page.replace('http://www.w3.org', '').replace('https://matplotlib.org', '').replace('http://purl.org', '').replace('http://creativecommons.org', '')


def test_predict_forms_agree(bonefrac, demo, images):
    bundle = ('--bundle', demo/'bundle')
    code, out, _ = bonefrac('predict', *images, *bundle, '--format', 'json')
    assert code == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert [r['path'] for r in records] == [str(f) for f in images]
    for r in records:
        assert set(r) == {'path', 'answer', 'probability', 'classes', 'refused', 'inverted'} and r['refused'] is None
        assert r['answer'] in ('fracture', 'doubt', 'no fracture') and 0 <= r['probability'] <= 1
        assert r['probability'] == r['classes']['fractured'] and abs(sum(r['classes'].values()) - 1) < 1e-5
    rows = list(csv.DictReader(io.StringIO(bonefrac('predict', *images, *bundle, '--format', 'csv')[1])))
    assert [(r['path'], r['answer'], float(r['p_fractured'])) for r in rows] == [(r['path'], r['answer'], r['probability']) for r in records]
    table = [line.split('\t') for line in bonefrac('predict', *images, *bundle)[1].splitlines()]
    assert [(p, a) for p, a, _ in table] == [(r['path'], r['answer']) for r in records]
    folder = bonefrac('predict', images[0].parent, *bundle, '--format', 'json')[1]
    listed = bonefrac('predict', '-', *bundle, '--format', 'json', stdin='\n'.join(map(str, images)))[1]
    assert folder == listed == out


def test_what_is_no_image_and_what_is_turned_round(bonefrac, demo, images, tmp_path):
    from bonefrac.not_radiographs import not_radiograph
    image = np.asarray(Image.open(images[0]))
    for name, pixels in (('image', image), ('turned', 255 - image), ('mirrored', image[:, ::-1]), ('page', not_radiograph('page', 320))): Image.fromarray(pixels).save(tmp_path/f'{name}.png')
    ask = lambda *options: {Path(r['path']).stem: r for r in map(json.loads, bonefrac('predict', tmp_path, '--bundle', demo/'bundle', '--format', 'json', *options)[1].splitlines())}
    plain, both, unchecked = ask(), ask('--tta'), ask('--no-input-check')
    assert plain['page']['answer'] == 'refused' and 'bone radiograph' in plain['page']['refused'] and unchecked['page']['refused'] is None
    assert [plain[k]['inverted'] for k in ('image', 'turned')] == [False, True] and abs(plain['image']['probability'] - plain['turned']['probability']) < .02
    assert abs(both['image']['probability'] - both['mirrored']['probability']) < 1e-3
    assert not any(r['inverted'] for r in unchecked.values())


def test_heatmaps(bonefrac, demo, images, tmp_path):
    code, _, _ = bonefrac('predict', *images[:2], '--bundle', demo/'bundle', '--heatmaps', tmp_path/'maps')
    assert code == 0 and sorted(p.name for p in (tmp_path/'maps').iterdir()) == ['image0.png', 'image1.png']
    assert Image.open(tmp_path/'maps'/'image0.png').mode == 'RGB'


def test_bad_images_are_refused_one_by_one(bonefrac, demo, images, tmp_path):
    (tmp_path/'a_letter.jpg').write_text('Dear colleague')
    Image.open(images[0]).save(tmp_path/'b_whole.jpg')
    (tmp_path/'b_truncated.jpg').write_bytes((tmp_path/'b_whole.jpg').read_bytes()[:3000]); (tmp_path/'b_whole.jpg').unlink()
    (tmp_path/'c_empty.png').touch()
    shutil.copy(images[1], tmp_path/'d.png'); shutil.copy(images[2], tmp_path/'e.png')
    code, out, err = bonefrac('predict', tmp_path, '--bundle', demo/'bundle', '--format', 'json')
    records = {Path(r['path']).name: r for r in map(json.loads, out.splitlines())}
    assert code == 2 and 'Traceback' not in err
    assert {n for n, r in records.items() if r['refused']} == {'a_letter.jpg', 'b_truncated.jpg', 'c_empty.png'}
    assert all(r['answer'] == 'refused' and r['probability'] is None for r in records.values() if r['refused'])
    for name, word in (('a_letter.jpg', 'not an image'), ('b_truncated.jpg', 'truncated'), ('c_empty.png', 'empty')): assert word in records[name]['refused']


@pytest.mark.parametrize('args, word', [
    (('predict', 'image.png', '--bundle', 'nobody'), 'no bundle there'), (('predict', 'image.png', '--format', 'xml'), 'choose table'),
    (('predict',), 'Missing argument'), (('train', 'nowhere', '--out', 'x'), 'no such folder'), (('train', 'phantoms:many', '--out', 'x'), 'phantoms:600'),
    (('train', 'phantoms:60', '--out', 'x', '--arch', 'resnet5O', '--no-pretrained'), 'did you mean resnet50'), (('train', 'phantoms:60', '--out', 'x', '--epochs', '0'), '--epochs'),
    (('train', 'phantoms:60', '--out', 'x', '--target', 'colour'), "no column 'colour'"), (('evaluate', 'nobody', 'phantoms:60', '--out', 'x'), 'no bundle there'),
    (('models', 'zzz'), 'no backbone'), (('datasets', '--get', 'zzz'), 'no such set'), (('datasets', '--get', 'mura'), 'signed'), (('fly',), 'fly')])
def test_wrong_use_gets_one_line(bonefrac, tmp_path, args, word):
    code, out, err = bonefrac(*args, cwd=tmp_path)
    lines = [line for line in err.splitlines() if line.startswith('bonefrac: ')]
    assert code == 2 and len(lines) == 1 and word in lines[0] and 'Traceback' not in err, err


@pytest.mark.parametrize('command', [(), ('predict',), ('train',), ('evaluate',), ('demo',), ('datasets',), ('models',)])
def test_help(bonefrac, command):
    code, out, _ = bonefrac(*command, '--help')
    assert code == 0 and 'Usage' in out


def test_lists(bonefrac):
    assert all(name in bonefrac('datasets')[1] for name in ('fracatlas', 'multiregion', 'bonebreak10', 'mura', 'CC BY 4.0'))
    assert 'mobilenetv2_100' in bonefrac('models')[1] and 'resnet50' in bonefrac('models', 'resnet50')[1].split()


TRAIN = ('train', 'phantoms:150', '--arch', 'small_cnn', '--no-pretrained', '--size', 64, '--epochs', 12, '--batch-size', 16, '--lr', 0.003)


def start(cache, out):
    env = {**os.environ, 'BONEFRAC_CACHE': str(cache)}
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)   # a shell's background jobs, and what they start, ignore Ctrl-C
    return subprocess.Popen([Path(sys.executable).with_name('bonefrac'), *map(str, TRAIN), '--out', str(out)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


def wait_for_epoch(process, out, epochs=1):
    history = out/'checkpoint'/'history.csv'
    for _ in range(6000):
        if history.exists() and len(history.read_text().splitlines()) > epochs: return
        assert process.poll() is None, process.stderr.read()
        time.sleep(.05)
    raise AssertionError('no epoch within five minutes')


@pytest.mark.slow
def test_a_killed_run_goes_on(bonefrac, cache, tmp_path):
    out = tmp_path/'run'
    process = start(cache, out)
    wait_for_epoch(process, out)
    process.kill(); process.wait()
    assert 'holds a run already' in bonefrac(*TRAIN, '--out', out)[2]
    assert 'lr was 0.003' in bonefrac(*TRAIN[:-1], .1, '--out', out, '--resume')[2]
    code, said, err = bonefrac(*TRAIN, '--out', out, '--resume')
    assert code == 0 and said.strip() == str(out/'bundle'), err
    assert len((out/'history.csv').read_text().splitlines()) == 13
    assert not list(out.rglob('*.part'))


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_so_far(cache, tmp_path):
    out = tmp_path/'run'
    process = start(cache, out)
    wait_for_epoch(process, out)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=120)
    assert process.returncode == 0 and 'keeping epoch' in said + err, err
    assert (out/'bundle'/'config.json').exists()


def test_evaluation_says_what_training_saw(bonefrac, demo, tmp_path):
    code, said, err = bonefrac('evaluate', demo/'bundle', demo/'images.csv', '--split', 'train', '--out', tmp_path/'eval')
    assert code == 0, err
    metrics = json.loads((tmp_path/'eval'/'metrics.json').read_text())
    assert metrics['n_in_training'] == metrics['n'] > 0 and 'measure memory' in said


def test_fine_tune_a_bundle(bonefrac, demo, tmp_path):
    code, said, err = bonefrac('train', 'phantoms:150', '--init', demo/'bundle', '--size', 64, '--epochs', 1, '--target', 'region', '--out', tmp_path/'tuned', '--quiet')
    assert code == 0, err
    config = json.loads((tmp_path/'tuned'/'bundle'/'config.json').read_text())
    assert config['classes'] == sorted(['forearm', 'hand', 'hip', 'tibia and fibula', 'humerus']) and config['architecture']['weights'] == 'bundle demo'


def test_test_figures_go_into_the_card(bonefrac, demo, tmp_path):
    code, out, err = bonefrac('export', demo/'bundle', '--evaluation', demo/'metrics.json', '--name', 'told', '--out', tmp_path/'told')
    assert code == 0 and out.strip() == str(tmp_path/'told'), err
    card, metrics = (tmp_path/'told'/'README.md').read_text(), json.loads((demo/'metrics.json').read_text())
    of_a_region = next(f['sensitivity'] for f in metrics['per_region'].values() if f['sensitivity']['value'] is not None)
    for m in (metrics['metrics']['auroc'], of_a_region, metrics['metrics_at_operating_points']['rule_out']['specificity']): assert f"{m['value']:.3f}" in card
    assert '# told' in card and '`doubt`' in card and 'Not a medical device' in card
    config = json.loads((tmp_path/'told'/'config.json').read_text())
    assert config['evaluation']['n'] == metrics['n'] and config['files']['model.onnx'] == metrics['model']
    (tmp_path/'other.json').write_text(json.dumps(metrics | {'model': '0' * 64}))
    code, out, err = bonefrac('export', demo/'bundle', '--evaluation', tmp_path/'other.json', '--out', tmp_path/'other')
    assert code == 2 and 'another model' in err and err.count('\n') == 1 and not (tmp_path/'other').exists()


def test_predict_never_loads_torch(demo, images, cache):
    script = f"import sys; sys.argv = ['bonefrac', 'predict', {str(images[0])!r}, '--bundle', {str(demo/'bundle')!r}]; from bonefrac.cli import main; main()"
    done = subprocess.run([sys.executable, '-X', 'importtime', '-c', script], capture_output=True, text=True, env={**os.environ, 'BONEFRAC_CACHE': str(cache)})
    loaded = {line.rpartition('|')[2].strip().partition('.')[0] for line in done.stderr.splitlines() if line.startswith('import time:')}
    assert done.returncode == 0 and 'onnxruntime' in loaded
    assert not loaded & {'torch', 'fastai', 'timm', 'torchvision', 'sklearn', 'matplotlib', 'seaborn', 'streamlit'}


def test_import_is_light():
    script = "import sys, bonefrac; print(sorted({m.partition('.')[0] for m in sys.modules} & {'numpy', 'pandas', 'torch', 'PIL', 'onnxruntime', 'typer', 'fastai'}))"
    assert subprocess.run([sys.executable, '-c', script], capture_output=True, text=True).stdout.strip() == '[]'


def test_printed_commands_are_quoted_for_a_shell(bonefrac, tmp_path):
    out = tmp_path/'my runs'
    code, _, err = bonefrac('audit', 'phantoms:60', '--out', out/'audit')
    assert code == 0 and f"next: bonefrac train '{out}/audit/images.csv' --out runs/mine" in err
    code, _, err = bonefrac('train', out/'audit'/'images.csv', '--out', out/'run 1', '--arch', 'small_cnn', '--no-pretrained', '--size', 32, '--epochs', 1)
    assert code == 0 and f"next: bonefrac evaluate '{out}/run 1/bundle' '{out}/audit/images.csv' --out '{out}/run 1/eval'" in err, err


def test_an_audited_table_reads_the_same_from_any_folder(bonefrac, tmp_path):
    import pandas as pd
    from PIL import Image
    from bonefrac.phantoms import phantom
    for i in range(24):
        folder = tmp_path/'data'/('fractured' if i % 2 else 'normal'); folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom(fracture_type='oblique' if i % 2 else '', size=128, seed=i).pixels).save(folder/f'{i}.png')
    (tmp_path/'elsewhere').mkdir()
    code, _, err = bonefrac('audit', 'data', '--out', 'audit', '--quiet', cwd=tmp_path)
    assert code == 0, err
    assert not pd.read_csv(tmp_path/'audit'/'images.csv').path.str.startswith('/').any()
    code, _, err = bonefrac('train', '../audit/images.csv', '--out', 'run', '--arch', 'small_cnn', '--no-pretrained', '--size', 32, '--epochs', 1, '--quiet', cwd=tmp_path/'elsewhere')
    assert code == 0, err
    code, _, err = bonefrac('evaluate', 'run/bundle', '../audit/images.csv', '--split', 'all', '--out', 'eval', '--quiet', cwd=tmp_path/'elsewhere')
    assert code == 0, err


def test_nothing_to_learn_from_is_said_and_no_next_step_offered(bonefrac, tmp_path):
    from PIL import Image
    from bonefrac.phantoms import phantom
    for i in range(6): (tmp_path/'flat').mkdir(exist_ok=True); Image.fromarray(phantom(size=128, seed=i).pixels).save(tmp_path/'flat'/f'{i}.png')
    code, out, err = bonefrac('audit', tmp_path/'flat', '--out', tmp_path/'audit')
    assert code == 0 and 'no labels' in out.lower() and 'next: bonefrac train' not in err and 'clean' not in out + err
    code, _, err = bonefrac('train', tmp_path/'audit'/'images.csv', '--out', tmp_path/'run')
    assert code == 2 and 'Traceback' not in err and len([line for line in err.splitlines() if line.startswith('bonefrac: ')]) == 1
    (tmp_path/'lost.csv').write_text('path,label\n' + ''.join(f'gone{i}.png,{("normal", "fractured")[i % 2]}\n' for i in range(24)))
    code, _, err = bonefrac('audit', tmp_path/'lost.csv', '--out', tmp_path/'other')
    assert code != 0 and '0 of 24' in err and 'looked relative to' in err


def test_a_bundle_that_lies_there_is_not_taken_for_a_run(bonefrac, demo, tmp_path):
    shutil.copytree(demo/'bundle', tmp_path/'run'/'bundle')
    code, out, err = bonefrac('train', 'phantoms:60', '--out', tmp_path/'run', '--arch', 'small_cnn', '--no-pretrained', '--size', 32, '--epochs', 1, '--quiet')
    assert code == 0, err
    assert json.loads((tmp_path/'run'/'bundle'/'config.json').read_text())['architecture']['name'] == 'small_cnn'


def test_a_folder_called_like_a_shipped_bundle_is_no_bundle(bonefrac, images, tmp_path):
    (tmp_path/'fracture').mkdir()
    code, out, _ = bonefrac('predict', images[0], '--bundle', 'fracture', '--format', 'json', '--no-input-check', cwd=tmp_path)
    assert code == 0 and json.loads(out)['refused'] is None


def test_one_bad_name_among_many_costs_one_row(bonefrac, demo, images, tmp_path):
    (tmp_path/'empty').mkdir()
    (tmp_path/'broken.png').write_bytes(b'nothing')
    listed = [str(images[0]), str(tmp_path/'empty'), str(tmp_path/'nowhere.png'), 'a\0b.png', 'x' * 300, str(tmp_path/'broken.png'), str(images[1])]
    code, out, err = bonefrac('predict', '-', '--bundle', demo/'bundle', '--format', 'json', stdin='\n'.join(listed) + '\n')
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 2 and 'Traceback' not in err
    assert [r['refused'] is None for r in records] == [True, False, False, False, False, False, True]
    assert '7 images' in err and '5 refused' in err
    assert not any('--' in (r['refused'] or '') for r in records)


def test_a_model_that_guesses_is_told_so(bonefrac, tmp_path):
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    for i in range(80):
        folder = tmp_path/'noise'/('fractured' if i % 2 else 'normal'); folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (120, 120), np.uint8)).save(folder/f'{i}.png')
    code, _, err = bonefrac('train', tmp_path/'noise', '--out', tmp_path/'run', '--arch', 'small_cnn', '--no-pretrained', '--size', 32, '--epochs', 1)
    assert code == 0 and 'no better than guessing' in err, err
    code, out, _ = bonefrac('evaluate', tmp_path/'run'/'bundle', tmp_path/'noise', '--split', 'all', '--out', tmp_path/'eval', '--quiet')
    assert code == 0 and 'no better than guessing' in out
    assert 'no better than guessing' in (tmp_path/'eval'/'report.html').read_text()


def test_several_findings_are_split_trained_and_evaluated(bonefrac, tmp_path):
    import pandas as pd
    from PIL import Image
    from bonefrac.phantoms import phantom
    rows = []
    for i in range(90):
        name = f'{i}.png'; Image.fromarray(phantom(fracture_type='oblique' if i % 2 else '', size=96, seed=i).pixels).save(tmp_path/name)
        rows.append(dict(path=name, labels=('plate', 'line', 'line;plate')[i % 3]))
    pd.DataFrame(rows).to_csv(tmp_path/'images.csv', index=False)
    code, _, err = bonefrac('train', tmp_path/'images.csv', '--target', 'labels', '--out', tmp_path/'run', '--arch', 'small_cnn', '--no-pretrained', '--size', 32, '--epochs', 1, '--quiet')
    assert code == 0, err
    split = pd.read_csv(tmp_path/'run'/'images.csv', keep_default_na=False)
    assert (split.split != '').all() and split[split.labels.str.contains(';')].split.nunique() == 3
    code, out, err = bonefrac('evaluate', tmp_path/'run'/'bundle', tmp_path/'images.csv', '--out', tmp_path/'eval', '--quiet')
    assert code == 0, err
    metrics = json.loads((tmp_path/'eval'/'metrics.json').read_text())
    assert metrics['n'] > 5 and (tmp_path/'eval'/'report.html').is_file()
