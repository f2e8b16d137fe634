from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import to_ytvis


def content(*boxes: Any, label: str = 'cat', **fields: Any) -> dict[str, Any]:
    names = [f'v/{number:05d}.jpg' for number in range(0, 5 * len(boxes), 5)]
    annotation = dict(id=1, video_id=1, category_id=1, iscrowd=0, bboxes=list(boxes))
    return dict(
        videos=[dict(dict(id=1, name='v', width=60, height=40, file_names=names), **fields)],
        categories=[dict(id=1, name=label)],
        annotations=[annotation],
    )


def test_boxes_out_of_the_frame_are_kept_without_a_warning(read, write):
    boxes = [[-5, -5, 20, 20], [100, 100, 4, 4], [50, 30, 20, 20]]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        (video,) = read('ytvis', write('a.json', content(*boxes))).videos
    assert video.tracks[0].boxes == {i: tuple(box) for i, box in enumerate(boxes)}


def test_videos_that_share_frames(read, write):
    cuts = content([1, 1, 2, 2])
    cuts['videos'].append(dict(cuts['videos'][0], id=2, name='w'))
    path = write('a.json', cuts)
    assert [v.file_names for v in read('ytvis', path).videos] == [('v/00000.jpg',)] * 2
    with pytest.raises(AnnotationError, match='is called'):
        read('ytvis', path, name_template='{stem}.jpg')


@pytest.mark.parametrize('label', ['big\ndog', 'cat\x01', 'cat\u2028dog', '\ud800'])
def test_control_characters_in_a_class(read, write, label):
    with pytest.raises(AnnotationError, match=r'a.json: category 1: name .* control characters'):
        read('ytvis', write('a.json', content([1, 1, 2, 2], label=label)))


def test_letters_of_all_languages_in_a_class(read, write):
    for label in ('車', 'a\u200cb', 'chien\u00a0noir', '🐈\u200d⬛'):
        assert read('ytvis', write('a.json', content([1, 1, 2, 2], label=label))).classes == (
            label,
        )


def test_masks(read, write):
    """A frame with a box may have none, as in what boxes_to_masks.py writes."""
    mask = np.zeros((40, 60), np.uint8, order='F')
    mask[2:6, 3:9] = 1
    rle = mask_utils.encode(mask)
    rle = dict(size=[40, 60], counts=rle['counts'].decode())
    source = content([3, 2, 6, 4], [3, 2, 6, 4], [1, 1, 2, 2], None)
    polygon = [[3, 2, 9, 2, 9, 6, 3, 6]]
    source['annotations'][0]['segmentations'] = [rle, polygon, None, rle]
    path = write('a.json', source)
    boxes = read('ytvis', path, keep_masks=True)
    (annotation,) = to_ytvis(boxes, keep_masks=True)['annotations']
    assert annotation['segmentations'] == [rle, rle, None, None]
    assert boxes.notes == {'masks without a box left out': 1}
    assert not read('ytvis', path).videos[0].tracks[0].masks


def test_masks_that_are_missing_or_broken(read, write):
    source = content([3, 2, 6, 4])
    with pytest.raises(AnnotationError, match='annotation 1: has no segmentations'):
        read('ytvis', write('a.json', source), keep_masks=True)
    for masks, message in (
        ([], 'a list of 1'),
        ([dict(size=[40, 60], counts='0')], 'frame 0, segmentations: run-lengths do not fill'),
        ([dict(size=[4, 6], counts='0')], 'frame 0, segmentations: a mask of size'),
    ):
        source['annotations'][0]['segmentations'] = masks
        with pytest.raises(AnnotationError, match=message):
            read('ytvis', write('a.json', source), keep_masks=True)
    source = content([3, 2, 6, 4], width=None, height=None)
    source['annotations'][0]['segmentations'] = [None]
    with pytest.raises(AnnotationError, match='size of the frames is not known'):
        read('ytvis', write('a.json', source), keep_masks=True)
