"""Each way in which an annotation file can be wrong gets an error that says where."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError, BoxVideo


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Spoils one field, named like ``annotations.0.bboxes.1``."""

    def spoil(content: Any) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split('.')]
        for part in way:
            content = content[part]
        content[last] = value

    return spoil


def _drop(path: str) -> Callable[[dict[str, Any]], None]:
    def spoil(content: Any) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split('.')]
        for part in way:
            content = content[part]
        del content[last]

    return spoil


BAD = {
    'annotations null': (_set('annotations', None), 'has no annotations.*test_mode=True'),
    'annotations missing': (_drop('annotations'), 'has no annotations'),
    'annotations no list': (_set('annotations', {}), "expected a list 'annotations'"),
    'videos missing': (_drop('videos'), "expected a list 'videos'"),
    'categories missing': (_drop('categories'), "expected a list 'categories'"),
    'entry no object': (_set('videos.1', 3), r'videos\[1\]: expected an object'),
    'unknown video': (_set('annotations.0.video_id', 9), 'annotation 7: video_id 9 is not among'),
    'unknown category': (
        _set('annotations.1.category_id', 4),
        'annotation 0: category_id 4 is not among the categories',
    ),
    'missing category': (_drop('annotations.1.category_id'), "annotation 0: field 'category_id'"),
    'short list': (
        _set('annotations.1.bboxes', [[1, 2, 3, 4]] * 4),
        r"video 1 \(walk\), annotation 0: 'bboxes' has 4 entries, but the video has 5 frames",
    ),
    'no boxes': (_drop('annotations.0.bboxes'), "has no list 'bboxes'.*box_source='mask'"),
    'negative box': (
        _set('annotations.1.bboxes.2', [1, 2, -3, 4]),
        r'walk.*annotation 0, frame 2, field bboxes: width and height must be positive',
    ),
    'empty box': (
        _set('annotations.1.bboxes.2', [1, 2, 0, 4]),
        r"annotation 0, frame 2, field bboxes: .*has no area.*empty_boxes='absent'",
    ),
    'nan box': (
        _set('annotations.1.bboxes.2', [1, float('nan'), 2, 4]),
        r'annotation 0, frame 2, field bboxes: expected \[x, y, w, h\]',
    ),
    'infinite box': (_set('annotations.1.bboxes.0', [1, 2, float('inf'), 4]), 'frame 0, field'),
    'three numbers': (_set('annotations.1.bboxes.4', [1, 2, 3]), 'frame 4, field bboxes'),
    'text box': (_set('annotations.1.bboxes.4', ['1', '2', '3', '4']), 'frame 4, field bboxes'),
    'text id': (_set('annotations.1.id', 'x'), r"annotations\[1\]: 'id' must be a whole number"),
    'list id': (_set('annotations.1.video_id', [1]), "'video_id' must be a whole number"),
    'same annotation id': (_set('annotations.1.id', 7), 'annotation 7: id is used twice'),
    'same video id': (_set('videos.1.id', 1), r'videos\[1\]: video id 1 is used twice'),
    'same category': (_set('categories.1.name', 'dog'), r"categories\[1\]: id 1 or name 'dog'"),
    'no file names': (_drop('videos.0.file_names'), "video 1: field 'file_names' is missing"),
    'empty file names': (_set('videos.0.file_names', []), "video 1: 'file_names' must be a list"),
    'same frame': (
        _set('videos.0.file_names.3', 'walk/0.png'),
        "video 1: 'file_names' lists 'walk/0.png' twice",
    ),
    'wrong length': (_set('videos.0.length', 6), "video 1: 'length' is 6, but"),
    'wrong width': (_set('videos.0.width', -4), "video 1: 'width' must be a positive number"),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_files(name, tiny_json, tiny_images, write_json):
    spoil, message = BAD[name]
    spoil(tiny_json)
    path = write_json(tiny_json)
    with pytest.raises(AnnotationError, match=message) as error:
        BoxVideo(path, img_root=str(tiny_images))
    assert path in str(error.value)


def test_missing_and_broken_json(tiny_images, write_json, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json not found'):
        BoxVideo(str(tmp_path / 'nowhere.json'), img_root=str(tiny_images))
    with pytest.raises(AnnotationError, match='is not valid json'):
        BoxVideo(write_json('{"videos": ['), img_root=str(tiny_images))
    with pytest.raises(AnnotationError, match='expected a json object'):
        BoxVideo(write_json('[]'), img_root=str(tiny_images))


def test_dropped_annotations_are_checked_too(tiny_json, tiny_images, write_json):
    tiny_json['annotations'][0].update(iscrowd=1, bboxes=[])
    with pytest.raises(AnnotationError, match="'bboxes' has 0 entries"):
        BoxVideo(write_json(tiny_json), img_root=str(tiny_images))


@pytest.mark.parametrize('missing', ['null', 'absent'])
def test_testing_needs_no_annotations(missing, tiny_json, tiny_images, write_json):
    if missing == 'null':
        tiny_json['annotations'] = None
    else:
        del tiny_json['annotations']
    assert len(BoxVideo(write_json(tiny_json), img_root=str(tiny_images), test_mode=True)) == 2


def test_testing_checks_annotations_that_are_there(tiny_json, tiny_images, write_json):
    del tiny_json['annotations'][0]['bboxes']  # masks alone are enough to evaluate
    BoxVideo(write_json(tiny_json), img_root=str(tiny_images), test_mode=True)
    tiny_json['annotations'][1]['bboxes'].pop()
    with pytest.raises(AnnotationError, match="'bboxes' has 4 entries"):
        BoxVideo(write_json(tiny_json), img_root=str(tiny_images), test_mode=True)


def test_boxes_that_leave_the_frame(tiny_json, tiny_images, write_json):
    boxes = [[-5, -5, 20, 20], [50, 30, 20, 20], [70, 0, 5, 5], [1, 1, 59.2, 5], [57, 2, 4, 4]]
    tiny_json['annotations'][1]['bboxes'] = boxes
    with pytest.warns(UserWarning, match='3 boxes leave the frame.*1 boxes lie outside') as told:
        dataset = BoxVideo(write_json(tiny_json), img_root=str(tiny_images))
    assert len(told) == 1
    instances = dataset.get_data_info(0)['instances']
    assert instances.boxes[1].tolist() == pytest.approx(
        np.array([[0, 0, 15, 15], [50, 30, 60, 40], [0] * 4, [1, 1, 60, 6], [57, 2, 60, 6]])
    )
    assert instances.valid[1].tolist() == [True, True, False, True, True]


def test_empty_boxes_as_absent(tiny_json, tiny_images, write_json):
    tiny_json['annotations'][1]['bboxes'][2] = [3, 3, 0, 5]
    with pytest.warns(UserWarning, match='1 boxes have no area'):
        dataset = BoxVideo(write_json(tiny_json), img_root=str(tiny_images), empty_boxes='absent')
    assert not dataset.get_data_info(0)['instances'].valid[1, 2]


def test_good_file_is_quiet_and_read_right(tiny_json, tiny_images, write_json):
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        dataset = BoxVideo(write_json(tiny_json), img_root=str(tiny_images))
    info = dataset.get_data_info(0)
    instances = info['instances']
    assert (info['id'], info['name'], info['height'], info['width']) == (1, 'walk', 40, 60)
    assert instances.ids.tolist() == [7, 0]
    assert instances.labels.tolist() == [1, 0]  # the file lists dog first
    assert instances.valid[0].tolist() == [False, True, True, True, False]
    assert instances.boxes[0, 1].tolist() == [11, 5, 31, 35]
    assert instances.segmentations is None


def test_size_from_the_image_where_the_file_does_not_tell(tiny_json, tiny_images, write_json):
    for video in tiny_json['videos']:
        del video['width'], video['height']
    info = BoxVideo(write_json(tiny_json), img_root=str(tiny_images)).get_data_info(0)
    assert (info['height'], info['width']) == (40, 60)


def test_masks_only_where_asked_for(tiny_json, tiny_images, write_json):
    path = write_json(tiny_json)
    for arguments in (dict(box_source='mask'), dict(load_masks=True)):
        with pytest.raises(AnnotationError, match=r"has no list 'segmentations'.*boxes only"):
            BoxVideo(path, img_root=str(tiny_images), **arguments)
    for annotation in tiny_json['annotations']:
        annotation['segmentations'] = 'nobody looks at this'
    BoxVideo(write_json(tiny_json), img_root=str(tiny_images))


def test_mask_of_another_size(tiny_json, tiny_images, write_json):
    for annotation in tiny_json['annotations']:
        annotation['segmentations'] = [None] * len(annotation['bboxes'])
    tiny_json['annotations'][1]['segmentations'][3] = dict(size=[60, 40], counts='x')
    with pytest.raises(AnnotationError, match=r'annotation 0, frame 3, field segmentations'):
        BoxVideo(write_json(tiny_json), img_root=str(tiny_images), load_masks=True)
