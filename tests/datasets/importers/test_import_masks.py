from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils

from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import to_ytvis
from mmboxvis.datasets.importers.place import Place
from mmboxvis.datasets.importers.rle import read_mask, read_rle, rle_box


def png(ids: object, palette: bool = False) -> bytes:
    array = np.array(ids)
    image = Image.fromarray(array.astype(np.uint8 if array.max() < 256 else np.uint16))
    if palette:
        image = image.convert('P')
        image.putdata(array.ravel().tolist())
        image.putpalette(list(range(256)) * 3)
    buffer = io.BytesIO()
    image.save(buffer, 'png')
    return buffer.getvalue()


def rle_text(mask: np.ndarray) -> str:
    return mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))['counts'].decode()


EMPTY = np.zeros((4, 6), int)
TWO = np.array([[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 2], [0, 0, 0, 0, 0, 2], [255, 0, 0, 0, 0, 0]])


def test_background_only(read, write):
    (video,) = read('masks', write('walk/0.png', png(EMPTY)).parent).videos
    assert (video.name, video.file_names, video.tracks) == ('walk', ('walk/0.jpg',), ())


@pytest.mark.parametrize('palette', [False, True])
def test_objects_by_value(read, write, load, palette):
    write('set/walk/00002.png', png(TWO, palette))
    write('set/walk/00010.png', png(np.where(TWO == 2, 2, 0), palette))
    path = write('set/run/0.png', png(TWO, palette))
    boxes = read('masks', path.parents[1], label='thing')
    run, walk = boxes.videos
    assert (walk.numbers, walk.width, walk.height) == ((2, 10), 6, 4)
    assert walk.file_names == ('walk/00002.jpg', 'walk/00010.jpg')
    assert {t.key: t.boxes for t in walk.tracks} == {
        '1': {0: (1, 0, 2, 2)},
        '2': {0: (5, 1, 1, 2), 1: (5, 1, 1, 2)},
    }
    assert boxes.classes == ('thing',)
    assert boxes.notes == {'void regions (255) left out': 2}
    assert len(run.tracks) == 2
    assert len(load(boxes)) == 2


def test_masks_are_kept_on_demand(read, write):
    path = write('walk/0.png', png(TWO)).parent
    assert 'segmentations' not in to_ytvis(read('masks', path))['annotations'][0]
    content = to_ytvis(read('masks', path, keep_masks=True), keep_masks=True)
    for number, annotation in enumerate(content['annotations'], start=1):
        (mask,) = annotation['segmentations']
        np.testing.assert_array_equal(mask_utils.decode(mask), number == TWO)
        assert annotation['bboxes'] == [mask_utils.toBbox(mask).tolist()]


def test_files_in_the_order_of_their_numbers(read, write):
    for number in (2, 10, 1):
        path = write(f'v/{number}.png', png(EMPTY))
    assert read('masks', path.parent).videos[0].file_names == ('v/1.jpg', 'v/2.jpg', 'v/10.jpg')


def test_names_in_capitals(read, write):
    path = write('v/1.PNG', png(TWO))
    assert len(read('masks', path.parent).videos[0].tracks) == 2


def test_mots_images(read, write):
    ids = np.array([[0, 1001, 2003, 2003], [10000, 0, 3001, 0]])
    boxes = read('masks', write('v/instances/1.png', png(ids)).parents[1])
    (video,) = boxes.videos
    assert video.name == 'v'
    assert {t.key: (t.label, t.boxes[0]) for t in video.tracks} == {
        '1001': ('car', (1, 0, 1, 1)),
        '2003': ('pedestrian', (2, 0, 2, 1)),
        '3001': ('class_3', (2, 1, 1, 1)),
    }
    assert boxes.notes == {'regions to ignore left out': 1}


def test_mots_text(read, write, load):
    mask = rle_text(TWO == 1)
    rows = f'3 2005 2 4 6 {mask}\n2 10000 10 4 6 {mask}\n1 1001 1 4 6 {rle_text(TWO == 2)}\n'
    boxes = read('masks', write('0002.txt', rows), keep_masks=True)
    (video,) = boxes.videos
    assert (video.name, video.numbers, video.width) == ('0002', (1, 2, 3), 6)
    assert {t.key: (t.label, t.boxes) for t in video.tracks} == {
        '2005': ('pedestrian', {2: (1, 0, 2, 2)}),
        '1001': ('car', {0: (5, 1, 1, 2)}),
    }
    assert video.tracks[0].masks == {2: dict(size=[4, 6], counts=mask)}
    assert load(boxes).get_data_info(0)['instances'].valid.sum() == 2


def test_frames_of_text_from_zero(read, write):
    path = write('a.txt', f'0 1001 1 4 6 {rle_text(TWO == 1)}\n')
    assert read('masks', path).videos[0].numbers == (0,)
    path = write('a.txt', f'7 1001 1 4 6 {rle_text(TWO == 1)}\n')
    assert read('masks', path, first_frame=5).videos[0].numbers == (5, 6, 7)


def test_no_file(read, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'has no .png and no MOTS .txt'):
        read('masks', tmp_path)
    with pytest.raises(FileNotFoundError, match='gone'):
        read('masks', tmp_path / 'gone')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (png(np.full((2, 2), 300)), 'value 300 is no id of MOTS'),
        (b'no image', 'not a PNG image'),
        (png(TWO)[:60], 'not a PNG image'),
    ],
)
def test_image_that_is_wrong_is_named(read, write, content, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read('masks', write('v/1.png', content).parent)
    assert '1.png' in str(error.value)


def test_size_and_mode(read, write):
    write('v/1.png', png(TWO))
    path = write('v/2.png', png(TWO[:3]))
    with pytest.raises(AnnotationError, match=r'2.png: is 6 x 3 pixels, but the first'):
        read('masks', path.parent)
    Image.new('RGB', (3, 3)).save(Path(path).with_name('0.png'))
    with pytest.raises(AnnotationError, match=r'0.png: has mode RGB'):
        read('masks', path.parent)


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ('1 1001 1 4 6', 'line 1: has 5 columns'),
        ('1 1001 1 4 6 oo', 'cut off'),
        ('1 1001 1 4 6 !', 'no compressed run-lengths'),
        ('1 1001 1 4 6 04', 'do not fill a mask of 6 x 4'),
        ('1 1001 1 99999 6 04', 'a frame of 6 x 99999 pixels'),
        ('1 1001 1 4 6 0B4', 'negative run|do not fill'),
    ],
)
def test_text_that_is_wrong_is_named(read, write, row, message):
    with pytest.raises(AnnotationError, match=message):
        read('masks', write('a.txt', row))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_run_lengths_of_any_mask_pass(height, width, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    rle = read_rle(rle_text(mask), [height, width], Place(Path('a.txt')))
    np.testing.assert_array_equal(mask_utils.decode(rle), mask)
    assert list(rle_box(rle)) == mask_utils.toBbox(rle).tolist()


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_run_lengths_from_anywhere_are_right_or_refused(text):
    try:
        rle = read_rle(text, [5, 7], Place(Path('a.txt')))
    except AnnotationError as error:
        assert 'a.txt' in str(error)
    else:
        assert mask_utils.decode(rle).shape == (5, 7)


@pytest.mark.parametrize(
    ('polygon', 'message'),
    [
        ([0, 0, 4, 0], 'a polygon needs x, y of at least three corners'),
        ([0, 0, 4, 0, 4, 'x'], 'a number of a polygon must be a number'),
        ([0, 0, 4, 0, 2e6, 4], 'a number of a polygon must be a number'),
        # pycocotools walks along the outline: this one took seconds, twenty such corners a minute
        ([-1e6, 0, 1e6, 1, -1e6, 2], 'the outline of a polygon is longer'),
    ],
)
def test_polygon_that_is_wrong_is_named(polygon, message):
    with pytest.raises(AnnotationError, match=f'a.json: {message}'):
        read_mask([polygon], (10, 10), Place(Path('a.json')))


def test_numbers_of_polygons_may_be_text():
    mask = read_mask([['0', '0', '4', '0', '4', '4.0', 0, 4]], (6, 6), Place(Path('a.json')))
    assert rle_box(mask) == (0, 0, 4, 4)


def test_real_mots(read, formats, load):
    boxes = read('masks', formats / 'mots' / 'datumaro', keep_masks=True)
    train, val = boxes.videos
    assert (train.name, train.numbers, train.width, train.height) == ('train', (1, 2), 5, 1)
    assert {t.key: (t.label, t.boxes) for t in train.tracks} == {
        '3002': ('c', {0: (2, 0, 1, 1)}),
        '4001': ('d', {0: (3, 0, 1, 1)}),
        '4003': ('d', {0: (0, 0, 2, 1)}),
        '4002': ('d', {1: (0, 0, 1, 1)}),
    }
    assert {t.key: (t.label, t.boxes) for t in val.tracks} == {'1001': ('a', {0: (1, 0, 1, 1)})}
    assert boxes.classes == ('a', 'b', 'c', 'd')
    first = mask_utils.decode(train.tracks[2].masks[0])
    np.testing.assert_array_equal(first, [[1, 1, 0, 0, 0]])
    assert len(load(boxes)) == 2
