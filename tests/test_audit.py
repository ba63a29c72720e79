"The audit as a user runs it: a command on a folder, stopped and gone on with, on planted faults and on real images"
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bonefrac.planted import planted_dataset

DATA = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))
needs_data = pytest.mark.skipif(not (DATA/'multiregion').is_dir(), reason='BONEFRAC_DATA names no folder with multiregion: the audit was not tried on real images')


@pytest.fixture(scope='module')
def faulty(tmp_path_factory):
    "Images with planted faults as an images CSV, and the faults"
    folder = tmp_path_factory.mktemp('faulty')
    images, faults = planted_dataset(folder/'images')
    (folder/'images'/'letter.png').write_text('Dear colleague')
    images.loc[len(images)] = images.iloc[0].to_dict() | dict(path=str(folder/'images'/'letter.png'), group='')
    images.loc[len(images)] = images.iloc[0].to_dict() | dict(path=str(folder/'images'/'lost.png'), group='')
    images.to_csv(folder/'images.csv', index=False)
    return folder/'images.csv', faults


@pytest.fixture(scope='module')
def audited(bonefrac, faulty, tmp_path_factory):
    out = tmp_path_factory.mktemp('audit')
    code, said, err = bonefrac('audit', faulty[0], '--out', out)
    assert code == 0, err
    return out, json.loads((out/'audit.json').read_text()), said


def names(records, *columns): return {Path(r[c]).name for r in records for c in columns}


def test_every_planted_fault_is_found_and_nothing_else(audited, faulty):
    _, found, _ = audited
    faults = {kind: {Path(p).name for p in part.path} for kind, part in faulty[1].groupby('fault')}
    copies = faulty[1][~faulty[1].fault.isin(['broken', 'coloured marks', 'leaking patient'])]
    assert {frozenset((p['path'], p['other'])) for p in found['pairs']} == {frozenset(p) for p in zip(copies.path, copies.of)}
    kinds = {frozenset((p['path'], p['other'])): p['kind'] for p in found['pairs']}
    for f in copies[~copies.fault.isin(['leak', 'conflict'])].itertuples(): assert kinds[frozenset((f.path, f.of))] == f.fault
    angles = {Path(p['path'] if 'turned' in p['path'] else p['other']).stem: abs(p['angle']) for p in found['pairs'] if 'turned' in p['path'] + p['other']}
    assert {k: round(v) for k, v in angles.items()} == {'turned-7': 7, 'turned-33': 33, 'turned-90': 90}
    assert names(found['broken'], 'path') == faults['broken'] | {'letter.png', 'lost.png'}
    assert names(found['leaks'], 'path') == faults['leak'] | faults['leaking patient']
    assert names(found['conflicts'], 'path') >= faults['conflict'] and len(found['conflicts']) == 2
    assert names(found['marks'], 'path') == faults['coloured marks']


def test_reasons_are_given(audited):
    notes = {Path(b['path']).name: b['issue'] for b in audited[1]['broken']}
    for name, reason in {'cut.png': 'truncated', 'tiny.png': 'too small', 'photo.png': 'not grey', 'letter.png': 'not a picture', 'lost.png': 'cannot be opened'}.items(): assert reason in notes[name]


def test_clean_split_is_clean(audited):
    out, found, said = audited
    images = pd.read_csv(out/'images.csv', keep_default_na=False)
    inside = images[images.split != '']
    for column in ('digest', 'radiograph_id', 'group'): assert inside[inside[column] != ''].groupby(column).split.nunique().max() == 1
    assert set(inside.groupby('split').label.nunique()) == {2}
    assert images.issue[images.split == ''].ne('').all() and images.published_split.isin(['train', 'valid', 'test']).all()
    assert '2 images of 1 radiographs' in said


def test_page_stands_alone_and_names_every_finding(audited, faulty):
    page = (audited[0]/'audit.html').read_text()
    assert 'src="http' not in page and '<script' not in page and '<link' not in page
    assert all(Path(p).name in page for p in faulty[1].path)


def test_stopped_audit_goes_on(tmp_path, cache):
    "Ctrl-C while images are read: one line, what was read is kept, and the same command ends with the same result"
    out = tmp_path/'audit'
    command = [Path(sys.executable).with_name('bonefrac'), 'audit', 'phantoms:240', '--out', out]
    env = {**os.environ, 'BONEFRAC_CACHE': str(cache), 'PYTHONWARNINGS': 'ignore'}
    subprocess.run([sys.executable, '-c', 'from bonefrac.datasets import read_dataset; read_dataset("phantoms:240")'], env=env, check=True)
    started = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    def kept():
        try: return sqlite3.connect(f'file:{out}/signatures.sqlite?mode=ro', uri=True).execute('select count(*) from signatures').fetchone()[0]
        except sqlite3.Error: return 0
    deadline = time.time() + 120
    while kept() < 40 and time.time() < deadline and started.poll() is None: time.sleep(.05)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130 and err.rstrip().endswith('bonefrac: stopped') and 'Traceback' not in err
    assert 40 <= kept() < 240 and not (out/'images.csv').exists()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and len(pd.read_csv(out/'images.csv')) == 240
    assert json.loads((out/'audit.json').read_text())['pairs'] == []


def test_images_without_labels_can_be_audited(bonefrac, faulty, tmp_path):
    code, said, err = bonefrac('audit', faulty[0].parent/'images', '--out', tmp_path)
    assert code == 0 and 'radiographs; 4 files are unfit' in said, err
    assert pd.read_csv(tmp_path/'images.csv', keep_default_na=False).split.eq('').all()


def test_sets_that_share_a_radiograph_are_told(bonefrac, tmp_path):
    from PIL import Image
    from bonefrac.phantoms import phantom
    here, there = tmp_path/'here', tmp_path/'there'
    for seed, folder in ((0, here), (100, there)):
        folder.mkdir()
        for i in range(8): Image.fromarray(phantom(seed=seed + i, size=256).pixels).save(folder/f'{i}.png')
    Image.open(here/'3.png').save(there/'under another name.jpg', quality=85)
    code, said, err = bonefrac('audit', here, there, '--out', tmp_path/'audit', '--quiet')
    assert code == 0 and '17 files hold 17 different contents and 16 radiographs' in said and '1 radiographs lie in here and there at once' in said, said + err
    images = pd.read_csv(tmp_path/'audit'/'images.csv', keep_default_na=False).set_index('path')
    assert images.group[str(here/'3.png')] == images.group[str(there/'under another name.jpg')] != ''


def test_what_is_no_dataset_gets_one_line(bonefrac, tmp_path):
    code, _, err = bonefrac('audit', tmp_path/'nowhere', '--out', tmp_path/'out')
    assert code == 2 and err.count('\n') == 1 and 'no such folder' in err
    (tmp_path/'letters').mkdir(); (tmp_path/'letters'/'a.txt').write_text('a')
    code, _, err = bonefrac('audit', tmp_path/'letters', '--out', tmp_path/'out')
    assert code == 2 and err.count('\n') == 1


def verify_held_out(store, images):
    "The highest score of any image of valid or test with any of the five images of train that are most like it, in each of three ways"
    from bonefrac.audit import SignatureStore, match_images, nearest, vlad_descriptors
    import numpy as np
    store, kept = SignatureStore(store), images[images.split != ''].drop_duplicates('digest')
    train, held = kept.digest[kept.split == 'train'].tolist(), kept.digest[kept.split != 'train'].tolist()
    words, flipped = vlad_descriptors(store, train + held)
    rings, n = np.stack([store.get(k).rings for k in train + held]), len(train)
    ranked = np.hstack([nearest(x[:n], y[n:], 5) for x, y in ((rings, rings), (words, words), (words, flipped))])
    matches = (match_images(store.get(k), store.get(train[j])) for k, row in zip(held, ranked) for j in dict.fromkeys(row))
    return max(m.score for m in matches if m)


@needs_data
def test_multiregion(bonefrac, tmp_path):
    "What is known of the set is found among 1,500 images of it, and the clean split holds against a second look that does not trust the first; bench/audit_families.py takes the whole set"
    from bonefrac.audit import MATCH_THRESHOLD
    from bonefrac.files import digest
    from bonefrac.datasets import read_dataset
    images = read_dataset(DATA/'multiregion').images
    images['digest'] = images.path.map(digest)
    assert (len(images), images.digest.nunique()) == (10501, 3811)
    held, train = images[images.split == 'test'], images[images.split == 'train']
    assert (len(held), held.digest.isin(train.digest).sum()) == (506, 491)
    part = pd.concat([held, train.sample(1500 - len(held), random_state=0)])
    part.drop(columns='digest').to_csv(tmp_path/'part.csv', index=False)
    code, said, err = bonefrac('audit', tmp_path/'part.csv', '--out', tmp_path, '--quiet', timeout=600)
    assert code == 0, err
    found = json.loads((tmp_path/'audit.json').read_text())
    s, leaking = found['summary'], part[part.split == 'train'].digest
    assert (s['images'], s['contents'], s['leaks']['test']['same_bytes']) == (1500, part.digest.nunique(), held.digest.isin(leaking).sum())
    assert {m['label'] for m in found['marks']} == {'fractured'}
    images = pd.read_csv(tmp_path/'images.csv', keep_default_na=False)
    assert images[images.split != ''].groupby('split').label.nunique().tolist() == [2, 2, 2]
    assert verify_held_out(tmp_path/'signatures.sqlite', images) < MATCH_THRESHOLD


@needs_data
@pytest.mark.parametrize('name, conflict', [('fracatlas', {'IMG0002886.jpg', 'IMG0004243.jpg'}), ('bonebreak10', {'X-ray-2-comminuted', 'type20420femur'})])
def test_label_conflicts_of_real_sets_are_named(bonefrac, tmp_path, name, conflict):
    "Among 60 images of the set: the audit of all of it takes minutes"
    from bonefrac.datasets import read_dataset
    images = read_dataset(DATA/name).images
    some = images[images.path.map(lambda p: any(c in p for c in conflict))]
    pd.concat([some, images.drop(some.index).sample(60, random_state=0)]).to_csv(tmp_path/'some.csv', index=False)
    code, _, err = bonefrac('audit', tmp_path/'some.csv', '--out', tmp_path/'out', '--quiet')
    assert code == 0, err
    listed = ' '.join(c['path'] for c in json.loads((tmp_path/'out'/'audit.json').read_text())['conflicts'])
    assert all(c in listed for c in conflict)
