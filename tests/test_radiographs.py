"Reading images: DICOM of every kind, damaged files, odd paths, and phantoms that are drawn as they always were"
import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from pydicom.data.data_manager import DATA_ROOT

from bonefrac import radiographs
from bonefrac.not_radiographs import not_radiograph
from bonefrac.phantoms import phantom, phantom_dataset
from bonefrac.planted import planted_dataset
from bonefrac.radiographs import (NOT_BONE, RadiographError, image_files, letterbox, letterbox_frame, read_colours,
                                  read_letterboxed, read_radiograph)

SAMPLES = Path(DATA_ROOT)/'test_files'
MR = ['MR_small', 'MR_small_RLE', 'MR_small_bigendian', 'MR_small_implicit', 'MR_small_jp2klossless',
      'MR_small_jpeg_ls_lossless', 'MR_small_padded']
CAPTURES = ['JPEGLSNearLossless_16', 'SC_rgb_jpeg_dcmtk', 'SC_rgb_jpeg_gdcm', 'SC_rgb_rle', 'SC_rgb_rle_16bit',
            'SC_ybr_full_422_uncompressed', 'image_dfl']
OTHERS = ['JPEG2000', 'examples_palette', 'CT_small']


def sample(name): return SAMPLES/f'{name}.dcm'


def refusal(source, **options):
    "The reason why an image is refused"
    with pytest.raises(RadiographError) as error:
        read_radiograph(source, **options)
    assert '\n' not in str(error.value)
    return error.value.reason


def dicom(values, **tags):
    "The bytes of a DICOM file that holds `values`, (h, w) 16-bit numbers"
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.Rows, data.Columns = np.shape(values)
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = 'MONOCHROME2'
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelData = np.asarray(values, np.uint16).tobytes()
    for tag, value in tags.items():
        setattr(data, tag, value)
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


RAMP = np.arange(64).reshape(8, 8) * 40


# DICOM: what is decoded

@pytest.mark.parametrize('name', [*MR, *CAPTURES, *OTHERS])
def test_transfer_syntaxes(name):
    image = read_radiograph(sample(name), check_modality=False)
    tags = pydicom.dcmread(sample(name), stop_before_pixels=True)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == image.size == (tags.Rows, tags.Columns)


def test_compression_changes_no_pixel():
    plain = read_radiograph(sample('MR_small'), check_modality=False).pixels
    for name in MR[1:-1]:
        assert np.array_equal(read_radiograph(sample(name), check_modality=False).pixels, plain), name


# the last is 12-bit JPEG Extended, which no decoder here reads
@pytest.mark.parametrize('name, why', [('SC_rgb_rle_2frame', '2 frames'), ('test-SR', 'without an image'),
                                       ('rtplan', 'without an image'), ('MR_truncated', 'damaged'), ('JPEG-lossy', 'damaged')])
def test_dicom_refused(name, why):
    assert why in refusal(sample(name), check_modality=False)


# DICOM: what is a radiograph

def test_no_other_modality_of_the_corpus_is_read():
    "MR, US and NM images of pydicom's corpus were once given fracture probabilities of 0.80 to 0.98"
    rejected = set()
    for path in SAMPLES.glob('*.dcm'):
        try:
            tags = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:
            continue
        if tags.get('Modality') in ('MR', 'US', 'NM', 'CT', 'SEG', 'RTDOSE') and 'Rows' in tags:
            with pytest.raises(RadiographError) as error:
                read_radiograph(path)
            if 'without an image' not in error.value.reason and 'damaged' not in error.value.reason:
                assert error.value.reason.startswith(NOT_BONE), path.name
                rejected.add(tags.Modality)
    assert rejected == {'MR', 'US', 'NM', 'CT', 'SEG', 'RTDOSE'}


@pytest.mark.parametrize('modality', ['CR', 'DX', 'DR', 'RG', 'RF', 'OT', 'SC', '', None])
def test_modalities_read(modality):
    tags = {} if modality is None else dict(Modality=modality)
    assert read_radiograph(dicom(RAMP, **tags)).pixels.shape == (8, 8)


@pytest.mark.parametrize('modality', ['MR', 'US', 'NM', 'CT', 'PT', 'MG', 'XA', 'ES', 'GM', 'SEG', 'IO', 'XC'])
def test_modalities_rejected(modality):
    content = dicom(RAMP, Modality=modality)
    assert refusal(content) == f'{NOT_BONE}: the DICOM modality is {modality}'
    assert read_radiograph(content, check_modality=False).pixels.shape == (8, 8)
    assert read_letterboxed(content, 16, check_modality=False).shape == (16, 16)


def test_modality_that_may_be_a_name_is_not_passed_on():
    assert 'Jane' not in refusal(dicom(RAMP, Modality='DOE^JANE'.title()))


@pytest.mark.parametrize('modality', [None, 'OT', 'DX'])
def test_sop_class_rejected(modality):
    tags = {} if modality is None else dict(Modality=modality)
    content = dicom(RAMP, SOPClassUID=pydicom.uid.UltrasoundImageStorage, **tags)
    assert refusal(content) == f'{NOT_BONE}: the DICOM SOP class is Ultrasound Image Storage'


def test_unknown_sop_class_is_judged_by_content():
    assert read_radiograph(dicom(RAMP, SOPClassUID='1.2.3.4.5')).pixels.shape == (8, 8)


def test_body_part():
    assert refusal(dicom(RAMP, Modality='DX', BodyPartExamined='BREAST')).startswith(NOT_BONE)
    for part in ('HAND', 'CHEST', 'my own words', ''):
        read_radiograph(dicom(RAMP, Modality='DX', BodyPartExamined=part))


def test_multi_frame_ultrasound_is_rejected_for_what_it_is():
    assert refusal(sample('examples_ybr_color')).startswith(NOT_BONE)


# DICOM: which way round the greys are

@pytest.mark.parametrize('interpretation, shape, inverted', [
    ('MONOCHROME2', None, False), ('MONOCHROME1', None, True),
    ('MONOCHROME2', 'IDENTITY', False), ('MONOCHROME1', 'INVERSE', True),
    ('MONOCHROME2', 'INVERSE', True), ('MONOCHROME1', 'IDENTITY', False),
    ('MONOCHROME2', 'LIN OD', False), ('MONOCHROME1', 'LIN OD', True)])
def test_presentation_lut_shape(interpretation, shape, inverted):
    tags = {} if shape is None else dict(PresentationLUTShape=shape)
    pixels = read_radiograph(dicom(RAMP, PhotometricInterpretation=interpretation, **tags)).pixels
    assert (pixels[0, 0] > pixels[-1, -1]) == inverted


# What decoders say

def huge_png():
    file = BytesIO()
    Image.new('L', (9600, 9600)).save(file, 'PNG')
    return file.getvalue()


NOISY = [sample('J2K_pixelrep_mismatch').read_bytes, sample('SC_rgb_jpeg').read_bytes, huge_png,
         lambda: dicom(RAMP, PixelData=RAMP.astype(np.uint16).tobytes() * 3)]


@pytest.mark.parametrize('content', NOISY)
def test_no_warning_and_no_log_line_escapes(content, caplog):
    filters, level = list(warnings.filters), logging.getLogger('pydicom').level
    content = content()
    with warnings.catch_warnings(record=True) as seen, caplog.at_level(logging.DEBUG):
        warnings.simplefilter('always')
        for check_modality in (True, False):
            try:
                read_radiograph(content, check_modality=check_modality)
            except RadiographError:
                pass
        read_or_refuse_colours(content)
        radiographs.body_part(content)
    assert not seen and not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert list(warnings.filters) == filters and logging.getLogger('pydicom').level == level


def read_or_refuse_colours(content):
    try:
        return read_colours(content, 64)
    except RadiographError:
        return None


def test_threads_leave_the_warning_filters_as_they_were(recwarn):
    filters = list(warnings.filters)
    noisy = dicom(RAMP, PixelData=RAMP.astype(np.uint16).tobytes() * 3)
    with ThreadPoolExecutor(8) as pool:
        reasons = set(pool.map(refusal, [noisy] * 64))
    assert len(reasons) == 1 and not recwarn.list
    assert list(warnings.filters) == filters


# What decoders give

@pytest.mark.parametrize('tags', [
    dict(PixelData=RAMP.astype(np.uint16).tobytes() * 2), dict(PixelData=RAMP.astype(np.uint16).tobytes() * 3),
    dict(PixelData=RAMP.astype(np.uint16).tobytes()[:-2]), dict(Rows=0), dict(Rows=9)])
def test_pixels_of_another_size_than_announced_are_damage(tags):
    assert 'damaged' in refusal(dicom(RAMP, **tags))


@pytest.mark.parametrize('error, why', [(MemoryError(), 'memory'), (RecursionError('deep'), 'damaged'),
                                        (AssertionError(), 'damaged'), (KeyError('x'), 'damaged')])
def test_anything_that_decoders_raise_becomes_one_kind_of_error(monkeypatch, error, why):
    def fails(*args, **options):
        raise error
    monkeypatch.setattr(Image, 'open', fails)
    assert why in refusal(b'an image')
    with pytest.raises(RadiographError, match=why):
        read_colours(b'an image', 64)


@pytest.mark.parametrize('result', [np.zeros((3, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((4, 5), np.uint8)])
def test_decoder_result_is_checked(monkeypatch, result):
    monkeypatch.setattr(radiographs, '_grey', lambda image: result)
    file = BytesIO()
    Image.new('L', (4, 4)).save(file, 'PNG')
    assert 'damaged' in refusal(file.getvalue())


def test_a_deflated_dicom_does_not_unpack_without_limit(monkeypatch):
    data = pydicom.dcmread(BytesIO(dicom(RAMP)))
    assert read_radiograph(deflated(data)).pixels.shape == (8, 8)
    monkeypatch.setattr(radiographs, 'MAX_INFLATED', 2**20)
    data.PixelData = bytes(2**21)
    assert 'inflates to more than 1 MB' in refusal(deflated(data))


def deflated(data):
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    file = BytesIO()
    data.save_as(file, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return file.getvalue()


def test_pages_of_a_tiff_are_not_counted():
    "Counting 150,000 pages took a minute; the second is reason enough to refuse"
    page = Image.new('L', (8, 8), 3)
    file = BytesIO()
    page.save(file, 'TIFF', save_all=True, append_images=[page] * 2)
    assert 'more than one' in refusal(file.getvalue())


# Paths

def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path/'pipe.png')
    for path in (tmp_path/'pipe.png', Path('/dev/zero')):
        assert 'not a regular file' in refusal(path)
    assert 'a folder' in refusal(tmp_path)


@pytest.mark.parametrize('name', ['a\0b.png', 'x' * 300 + '.png', 'y/' * 3000 + 'z.png', ''])
def test_names_that_no_file_can_have(tmp_path, name):
    assert refusal(f'{tmp_path}/{name}')


def test_content_has_no_name():
    with pytest.raises(RadiographError) as error:
        read_radiograph(BytesIO(b'no image'))
    assert str(error.value) == error.value.reason


def test_unreadable_folders_are_told(tmp_path, monkeypatch):
    for name in ('open/a.png', 'closed/b.png', 'closed/.hidden/c.png'):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).write_bytes(b'x')
    scandir = os.scandir

    def denied(path):
        if Path(path).name == 'closed':
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', denied)
    unreadable = []
    assert image_files(tmp_path, unreadable) == [tmp_path/'open/a.png']
    assert unreadable == [tmp_path/'closed']
    assert image_files(tmp_path) == [tmp_path/'open/a.png']


def test_an_entry_that_cannot_be_looked_at_is_told(tmp_path, monkeypatch):
    for name in ('a.png', 'b.png'):
        (tmp_path/name).write_bytes(b'x')
    stat = os.stat

    def denied(path, *args, **options):
        if str(path).endswith('b.png'):
            raise PermissionError(13, 'Permission denied', str(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, 'stat', denied)
    unreadable = []
    assert image_files(tmp_path, unreadable) == [tmp_path/'a.png']
    assert unreadable == [tmp_path/'b.png']


# Damage

def encoded():
    image = Image.fromarray(phantom('hand', 'oblique', size=96, seed=1).pixels)
    formats = [('JPEG', {}), ('JPEG', {'progressive': True}), ('PNG', {}), ('GIF', {}), ('TIFF', {}),
               ('TIFF', {'compression': 'tiff_lzw'}), ('BMP', {}), ('WEBP', {})]
    for format, options in formats:
        file = BytesIO()
        image.save(file, format, **options)
        yield file.getvalue()
    yield sample('MR_small_RLE').read_bytes()
    yield sample('MR_small_jp2klossless').read_bytes()
    yield dicom(RAMP, Modality='DX')


FILES = list(encoded())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FILES), st.data())
def test_damage_never_escapes(content, data):
    "Any cut, any changed bytes: an image, or a RadiographError of one line"
    damaged = bytearray(content[:data.draw(st.integers(0, len(content)))])
    places = st.integers(0, max(0, len(damaged) - 1))
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=12)):
        if damaged:
            damaged[at] = value
    side = data.draw(st.sampled_from([None, 32, 320]))
    try:
        image = read_radiograph(bytes(damaged), side=side, check_modality=data.draw(st.booleans()))
    except RadiographError as error:
        assert str(error) and '\n' not in str(error)
    else:
        assert image.pixels.dtype == np.uint8 and image.pixels.ndim == 2
        assert image.pixels.max() > image.pixels.min()


# Letterboxing

@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 640))
def test_letterbox_frame_holds_the_image(height, width, size):
    top, left, h, w = letterbox_frame((height, width), size)
    longest = max(height, width)
    assert max(h, w) == size and min(h, w) >= 1
    assert 0 <= top and top + h <= size and 0 <= left and left + w <= size
    assert abs(h / size - height / longest) <= 1 / size and abs(w / size - width / longest) <= 1 / size


def test_reduced_decoding_shows_the_same():
    image = Image.fromarray(phantom('tibia and fibula', 'oblique', size=1600, seed=2).pixels)
    file = BytesIO()
    image.save(file, 'JPEG', quality=95)
    full = letterbox(read_radiograph(file.getvalue()).pixels, 320)
    reduced = read_letterboxed(file.getvalue(), 320)
    assert abs(full.astype(int) - reduced).mean() < 1.5


# Phantoms: means of 4 x 4 blocks, since the last bit of a pixel may differ between processors

BLOCKS = {
    ('forearm', 'oblique', 1):
        [125, 160, 41, 17, 99, 153, 59, 17, 60, 149, 76, 17, 27, 138, 75, 17],
    ('hand', 'avulsion', 2):
        [17, 17, 28, 17, 19, 44, 81, 48, 19, 64, 145, 48, 21, 42, 183, 72],
    ('humerus', 'spiral', 3):
        [16, 155, 139, 111, 8, 112, 117, 10, 8, 92, 131, 12, 6, 68, 132, 11],
    ('tibia and fibula', 'comminuted', 4):
        [13, 101, 157, 16, 13, 81, 101, 14, 13, 87, 87, 14, 12, 82, 66, 14],
    ('hip', '', 5):
        [122, 102, 58, 12, 141, 152, 115, 33, 108, 114, 127, 42, 60, 82, 123, 53],
}


@pytest.mark.parametrize('what, means', BLOCKS.items())
def test_phantoms_are_drawn_as_ever(what, means):
    region, fracture_type, seed = what
    pixels = phantom(region, fracture_type, size=160, seed=seed).pixels
    assert np.allclose(pixels.reshape(4, 40, 4, 40).mean((1, 3)).ravel(), means, atol=1)


MEANS = {'scene': 102.1,
         'texture': 67.3,
         'chest': 92.3,
         'head slice': 42.2,
         'trunk slice': 35.1,
         'page': 223.4,
         'noise': 126.2,
         'blank': 130.0}


@pytest.mark.parametrize('kind, mean', MEANS.items())
def test_other_images_are_drawn_as_ever(kind, mean):
    assert abs(not_radiograph(kind, 80, 1).mean() - mean) < 1


def test_datasets_take_the_number_first(tmp_path):
    images, boxes = phantom_dataset(4, tmp_path/'clean', size=64)
    assert len(images) == 4
    images, faults = planted_dataset(40, tmp_path/'planted', size=64)
    assert len(images) == 40 + len(faults)
    assert set(images.region) <= {'forearm', 'hand', 'humerus', 'tibia and fibula', 'hip'}
