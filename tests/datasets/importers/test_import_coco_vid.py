from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import WRITERS

CONTENT = dict(
    categories=[dict(id=3, name='cat'), dict(id=1, name='dog')],
    videos=[dict(id=0, name='walk', fps=5), dict(id=9, name='run', width=60, height=40)],
    images=[
        dict(id=11, video_id=0, frame_id=8, file_name='walk/b.jpg', width=60, height=40),
        dict(id=12, video_id=0, frame_id=2, file_name='walk/a.jpg', width=60, height=40),
        dict(id=13, video_id=9, frame_id=0, file_name='run/a.jpg'),
    ],
    annotations=[
        dict(id=1, image_id=11, category_id=3, instance_id=0, bbox=[1, 2, 3, 4], visibility=0.2),
        dict(id=2, image_id=12, category_id=3, instance_id=0, bbox=[5, 6, 7, 8], occluded=True),
        dict(id=3, image_id=13, category_id=1, track_id=0, bbox=[1, 1, 1, 1], iscrowd=0),
        dict(id=4, image_id=13, category_id=1, track_id=1, bbox=[1, 1, 1, 1], iscrowd=True),
    ],
)


def test_no_annotations(read, write):
    boxes = read('coco-vid', write('a.json', dict(CONTENT, annotations=[])))
    assert [(v.name, v.tracks) for v in boxes.videos] == [('walk', ()), ('run', ())]


def test_frames_by_number_and_instances_by_video(read, write, load):
    boxes = read('coco-vid', write('a.json', CONTENT))
    walk, run = boxes.videos
    assert (walk.file_names, walk.numbers) == (('walk/a.jpg', 'walk/b.jpg'), (2, 8))
    assert (walk.width, walk.height, walk.fps) == (60, 40, 5)
    assert walk.tracks[0].boxes == {0: (5, 6, 7, 8), 1: (1, 2, 3, 4)}
    assert walk.tracks[0].occlusion == {0: 'slight_occlusion', 1: 'severe_occlusion'}
    assert [(t.label, t.boxes) for t in run.tracks] == [('dog', {0: (1, 1, 1, 1)})]
    assert boxes.classes == ('cat', 'dog')
    assert boxes.notes == {'crowd and ignored annotations left out': 1}
    assert len(load(boxes)) == 2


@pytest.mark.parametrize(
    ('part', 'index', 'change', 'message'),
    [
        ('annotations', 1, dict(image_id=99), r'annotations\[1\]: image_id 99 is not among'),
        ('annotations', 1, dict(image_id=11), "object '0' has a second box in frame 8"),
        ('annotations', 1, dict(video_id=9), 'video_id is 9, but image 12 is of video 0'),
        ('annotations', 1, dict(bbox=[1, 2, 3]), r'bbox must be a list of 4, got \[1, 2, 3\]'),
        ('annotations', 1, dict(bbox=[1, 2, 3, '4x']), 'a number of bbox must be a number'),
        ('annotations', 0, dict(instance_id=None), r'instance_id \(or track_id\) must be'),
        ('images', 0, dict(frame_id=2), 'frame_id 2 of video 0 is used twice'),
        ('images', 1, dict(id=11), 'id 11 is used twice'),
        ('images', 0, dict(width=61), 'different sizes'),
        ('images', 0, dict(height=None), r'sizes .*: \[\(60, 40\), \(60, None\)\]'),
        ('images', 0, dict(video_id=5), r'images\[0\]: video_id 5 is not among'),
        ('videos', 1, dict(name='walk'), "a second video is called 'walk'"),
        ('categories', 0, dict(name=''), r'categories\[0\]: name must be text'),
    ],
)
def test_what_is_wrong_is_named(read, write, part, index, change, message):
    content = copy.deepcopy(CONTENT)
    content[part][index].update(change)
    with pytest.raises(AnnotationError, match=message) as error:
        read('coco-vid', write('a.json', content))
    assert 'a.json' in str(error.value)


def boxes_of(video):
    return {track.key: (track.label, dict(track.boxes)) for track in video.tracks}


def test_real_cocovid(read, formats, load):
    boxes = read('coco-vid', formats / 'cocovid' / 'mmtracking_cocovid' / 'ann.json')
    (video,) = boxes.videos
    assert (video.name, video.width, video.height) == ('dummy_video', 512, 256)
    assert video.file_names == tuple(f'image_{i}.jpg' for i in range(1, 9))
    assert {k: (label, sorted(b)) for k, (label, b) in boxes_of(video).items()} == {
        '1': ('car', [1, 2, 3, 4]),
        '2': ('person', [4, 5, 6]),
    }
    np.testing.assert_allclose(
        video.tracks[0].boxes[1], (44.966804, 46.500637, 51.310867, 4.578987), atol=1e-5
    )
    assert boxes.notes == {'crowd and ignored annotations left out': 3}
    assert load(boxes).get_data_info(0)['instances'].valid.sum() == 7


def test_real_sets_of_mmdet(read, formats, load):
    folder = formats / 'cocovid' / 'onedl-mmdetection'
    (video,) = read('coco-vid', folder / 'vis_sample.json').videos
    assert boxes_of(video) == {
        '1': ('car', {0: (100, 100, 50, 50), 1: (100, 100, 50, 50)}),
        '2': ('train', {1: (500, 500, 100, 100)}),
    }
    boxes = read('coco-vid', folder / 'mot_sample.json')
    first, second = boxes.videos
    assert (len(first.numbers), len(second.numbers), first.fps) == (3, 2, 30)
    assert boxes_of(first)['0'][1][2] == (-348, 235, 477, 695)
    assert list(boxes_of(first)) == ['0', '1', '2'] and list(boxes_of(second)) == ['3', '4']
    # the box that is a crowd in the first frame
    assert boxes_of(first)['2'] == ('person_on_vehicle', {2: (1685, 386, 170, 347)})
    with pytest.warns(UserWarning, match='1 boxes leave the frame'):
        assert len(load(boxes)) == 2


def test_real_vis_and_tao(read, formats):
    (video,) = read('coco-vid', formats / 'cocovid' / 'mmtracking_vis' / 'ann.json').videos
    assert boxes_of(video) == {'1': ('sedan', {0: (1174, 335, 104, 79)})}
    boxes = read('coco-vid', formats / 'cocovid' / 'mmtracking_tao' / 'ann.json')
    (video,) = boxes.videos
    assert boxes_of(video) == {
        '1': ('baby', {0: (156, 97, 150, 301), 1: (58, 63, 407, 417)}),
        '3': ('category_95', {0: (162, 240, 134, 240), 1: (332, 377, 108, 103)}),
    }
    assert video.file_names[0].endswith('/frame0391.jpg')
    assert boxes.notes == {'boxes of a category that the file does not name: category_95': 2}


def test_real_results_are_no_annotations(read, formats):
    with pytest.raises(AnnotationError, match=r'results.json: categories must be a list'):
        read('coco-vid', formats / 'cocovid' / 'mmtracking_vis' / 'results.json')


def test_written_ids_are_unique_in_the_file(read, write):
    ((name, text),) = WRITERS['coco-vid'](read('coco-vid', write('a.json', CONTENT)))
    content = json.loads(text)
    assert name == 'annotations.json'
    assert [a['instance_id'] for a in content['annotations']] == [1, 1, 2]
