"""Masks of CVAT's xml, as it draws them and as our exports write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmboxvis.apis.mask_exports import write_cvat_images, write_cvat_videos
from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import to_ytvis

HEIGHT, WIDTH = 20, 30
NAMES = ['walk/10.jpg', 'walk/15.jpg', 'walk/20.jpg', 'walk/25.jpg']


def encoded(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=list(rle['size']), counts=rle['counts'].decode())


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def content_of(*tracks: list[np.ndarray | None]) -> dict[str, Any]:
    """One video of four frames in YouTube-VIS layout, with boxes around the masks."""
    annotations = []
    for key, masks in enumerate(tracks, start=70):
        rles = [None if mask is None else encoded(mask) for mask in masks]
        annotations.append(
            dict(
                id=key,
                video_id=1,
                category_id=1,
                iscrowd=0,
                bboxes=[None if rle is None else mask_utils.toBbox(rle).tolist() for rle in rles],
                segmentations=rles,
            )
        )
    return dict(
        videos=[dict(id=1, name='walk', width=WIDTH, height=HEIGHT, file_names=NAMES)],
        categories=[dict(id=1, name='cat')],
        annotations=annotations,
    )


@pytest.fixture
def content() -> dict[str, Any]:
    """Masks with holes, in parts, at all edges, of one pixel, of the whole frame."""
    rng = np.random.default_rng(0)
    pixel = np.zeros((HEIGHT, WIDTH), bool)
    pixel[HEIGHT - 1, WIDTH - 1] = True
    return content_of(
        [rng.random((HEIGHT, WIDTH)) > 0.5 for _ in NAMES],
        [None, pixel, None, np.ones((HEIGHT, WIDTH), bool)],
    )


def exported(format_: str, tmp_path, content: dict[str, Any], shape: Any):
    if format_ == 'cvat-images':
        return write_cvat_images(tmp_path / 'walk.xml', content, shape)
    (path,) = write_cvat_videos(tmp_path, content, shape)
    return path


@pytest.mark.parametrize('format_', ['cvat-images', 'cvat-video'])
def test_masks_come_back_as_they_were(read, tmp_path, content, format_):
    path = exported(format_, tmp_path, content, 'mask')
    names = dict(name_template='walk/{frame}.jpg') if format_ == 'cvat-video' else {}
    again = to_ytvis(read(format_, path, keep_masks=True, **names), keep_masks=True)
    assert again['videos'][0]['file_names'] == NAMES
    for column in ('segmentations', 'bboxes'):
        assert [a[column] for a in again['annotations']] == [
            a[column] for a in content['annotations']
        ]


@pytest.mark.parametrize('format_', ['cvat-images', 'cvat-video'])
def test_polygons_come_back_as_what_they_enclose(read, tmp_path, format_):
    masks = [disc(12, 9, 6), None, disc(0, 0, 9), disc(20, 10, 7)]
    path = exported(format_, tmp_path, content_of(masks), 'polygon')
    (track,) = read(format_, path, keep_masks=True).videos[0].tracks
    assert sorted(track.masks) == [0, 2, 3]
    for frame, rle in track.masks.items():
        found = mask_utils.decode(rle) > 0
        assert (found & masks[frame]).sum() / (found | masks[frame]).sum() > 0.85


def test_masks_are_kept_only_if_asked_for(read, tmp_path, content):
    for format_ in ('cvat-images', 'cvat-video'):
        path = exported(format_, tmp_path, content, 'mask')
        assert not any(track.masks for track in read(format_, path).videos[0].tracks)


def test_polygons_between_keys(read, write, cvat):
    """The square is drawn at frame 0 and at frame 4, 8 pixels further right."""
    keys = ''.join(
        f'<polygon frame="{frame}" outside="{outside}" points="{x},2;{x + 6},2;{x + 6},8;{x},8"/>'
        for frame, x, outside in ((0, 10, 0), (4, 18, 0), (6, 18, 1))
    )
    source = write('a.xml', cvat(f'<track id="0" label="cat">{keys}</track>'))
    (track,) = read('cvat-video', source, keep_masks=True).videos[0].tracks
    assert sorted(track.masks) == [0, 1, 2, 3, 4, 5]
    for frame, x in enumerate((10, 12, 14, 16, 18, 18)):
        wanted = np.zeros((80, 100), bool)
        wanted[2:8, x : x + 6] = True
        assert np.array_equal(mask_utils.decode(track.masks[frame]) > 0, wanted)


@pytest.mark.parametrize(('left', 'top'), [(-1, -1), (98, 79), (-2, 78), (100, 80), (0, -3)])
def test_what_leaves_the_frame_is_cut_off(read, write, cvat, left, top):
    mask = f'<mask frame="2" rle="1, 1, 2, 2" left="{left}" top="{top}" width="3" height="2"/>'
    source = write('a.xml', cvat(f'<track id="0" label="cat">{mask}</track>'))
    (track,) = read('cvat-video', source, keep_masks=True).videos[0].tracks
    pixels = {(left + x, top + y) for x, y in ((1, 0), (1, 1), (2, 1))}  # .#. / .##
    rows, columns = np.nonzero(mask_utils.decode(track.masks[2]))
    assert set(zip(columns.tolist(), rows.tolist(), strict=True)) == {
        (x, y) for x, y in pixels if 0 <= x < 100 and 0 <= y < 80
    }


def test_boxes_have_a_mask_without_a_pixel(read, write, cvat, box):
    source = write('a.xml', cvat(f'<track id="0" label="cat">{box(8, (0, 0, 4, 4))}</track>'))
    boxes = read('cvat-video', source, keep_masks=True)
    (track,) = boxes.videos[0].tracks
    assert [mask_utils.area(track.masks[frame]) for frame in (8, 9)] == [0, 0]
    assert boxes.notes == {'shapes of kind box given a mask without a pixel': 1}


def test_masks_that_cannot_be_made(read, write, cvat):
    def fails(shape: str, message: str, **changes: str) -> None:
        text = cvat(f'<track id="0" label="cat">{shape}</track>')
        for old, new in changes.items():
            text = text.replace(f'<{old}>', f'<{new}>').replace(f'</{old}>', f'</{new}>')
        with pytest.raises(AnnotationError, match=message):
            read('cvat-video', write('a.xml', text), keep_masks=True)

    square = '<polygon frame="1" points="1,1;5,1;5,5"/>'
    fails(square, 'size of the frames is not known', original_size='other')
    fails('<polygon frame="1" points="1,1;5,1"/>', 'at least three corners')
    # pycocotools walks along the outline, pixel by pixel
    far = ';'.join(f'{sign}1000000,{y}' for y in range(9) for sign in ('-', ''))
    fails(f'<polygon frame="1" points="{far}"/>', 'outline of a polygon is longer than')
