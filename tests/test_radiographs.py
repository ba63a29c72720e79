"Reading images: every DICOM transfer syntax that pydicom brings a sample of, and files that were damaged in every way"
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from pydicom.data.data_manager import DATA_ROOT

from bonefrac.phantoms import phantom
from bonefrac.radiographs import RadiographError, letterbox, letterbox_frame, read_radiograph, read_letterboxed

SAMPLES = Path(DATA_ROOT)/'test_files'
ONE_FRAME = ['JPEG2000', 'JPEGLSNearLossless_16', 'MR_small', 'MR_small_RLE', 'MR_small_bigendian', 'MR_small_implicit', 'MR_small_jp2klossless', 'MR_small_jpeg_ls_lossless',
             'MR_small_padded', 'SC_rgb_jpeg_dcmtk', 'SC_rgb_jpeg_gdcm', 'SC_rgb_rle', 'SC_rgb_rle_16bit', 'SC_ybr_full_422_uncompressed', 'examples_palette', 'image_dfl', 'CT_small']


@pytest.mark.parametrize('name', ONE_FRAME)
@pytest.mark.filterwarnings('ignore')
def test_transfer_syntaxes(name):
    path = SAMPLES/f'{name}.dcm'
    image, tags = read_radiograph(path), pydicom.dcmread(path, stop_before_pixels=True)
    assert image.pixels.dtype == np.uint8 and image.pixels.shape == image.size == (tags.Rows, tags.Columns)


def test_compression_changes_no_pixel():
    plain = read_radiograph(SAMPLES/'MR_small.dcm').pixels
    for name in ('MR_small_RLE', 'MR_small_jp2klossless', 'MR_small_jpeg_ls_lossless', 'MR_small_bigendian', 'MR_small_implicit'):
        assert np.array_equal(read_radiograph(SAMPLES/f'{name}.dcm').pixels, plain), name


@pytest.mark.parametrize('name, why', [('SC_rgb_rle_2frame', '2 frames'), ('test-SR', 'without a picture'), ('rtplan', 'without a picture'), ('MR_truncated', 'damaged'),
                                       ('JPEG-lossy', 'damaged')])  # the last is 12-bit JPEG Extended, which no decoder here reads
@pytest.mark.filterwarnings('ignore')
def test_dicom_refused(name, why):
    with pytest.raises(RadiographError, match=why): read_radiograph(SAMPLES/f'{name}.dcm')


def encoded():
    image = Image.fromarray(phantom('hand', 'oblique', size=96, seed=1).pixels)
    for fmt, kw in (('JPEG', {}), ('JPEG', {'progressive': True}), ('PNG', {}), ('GIF', {}), ('TIFF', {}), ('TIFF', {'compression': 'tiff_lzw'}), ('BMP', {}), ('WEBP', {})):
        buf = BytesIO(); image.save(buf, fmt, **kw)
        yield buf.getvalue()
    yield (SAMPLES/'MR_small_RLE.dcm').read_bytes()
    yield (SAMPLES/'MR_small_jp2klossless.dcm').read_bytes()


FILES = list(encoded())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FILES), st.data())
@pytest.mark.filterwarnings('ignore')
def test_damage_never_escapes(content, data):
    "Any cut, any changed bytes: an image, or a RadiographError of one line"
    damaged = bytearray(content[:data.draw(st.integers(0, len(content)))])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, max(0, len(damaged) - 1)), st.integers(0, 255)), max_size=12)):
        if damaged: damaged[at] = value
    try: image = read_radiograph(bytes(damaged), side=data.draw(st.sampled_from([None, 32, 320])))
    except RadiographError as e: assert str(e) and '\n' not in str(e)
    else: assert image.pixels.dtype == np.uint8 and image.pixels.ndim == 2 and image.pixels.max() > image.pixels.min()


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 640))
def test_letterbox_frame_holds_the_image(height, width, size):
    top, left, h, w = letterbox_frame((height, width), size)
    assert max(h, w) == size and min(h, w) >= 1 and 0 <= top and top + h <= size and 0 <= left and left + w <= size
    assert abs(h / size - height / max(height, width)) <= 1 / size and abs(w / size - width / max(height, width)) <= 1 / size


def test_reduced_decoding_shows_the_same():
    image = Image.fromarray(phantom('tibia and fibula', 'oblique', size=1600, seed=2).pixels)
    buf = BytesIO(); image.save(buf, 'JPEG', quality=95)
    whole, reduced = letterbox(read_radiograph(buf.getvalue()).pixels, 320), read_letterboxed(buf.getvalue(), 320)
    assert abs(whole.astype(int) - reduced).mean() < 1.5
