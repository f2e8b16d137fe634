from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError

BOX = dict(x1=1, y1=2, x2=10, y2=21)


def label(key: object = '1', category: str = 'car', **more: Any) -> dict[str, Any]:
    return dict(dict(id=key, category=category, box2d=BOX), **more)


def frame(index: int, *labels: dict[str, Any], **more: Any) -> dict[str, Any]:
    entry = dict(name=f'v-{index}.jpg', videoName='v', frameIndex=index, labels=list(labels))
    return dict(entry, **more)


def test_frames_without_labels(read, write):
    (video,) = read('bdd-mot', write('a.json', [frame(0, labels=None), frame(1)])).videos
    assert (video.name, video.file_names) == ('v', ('v/v-0.jpg', 'v/v-1.jpg'))
    assert video.tracks == ()


def test_last_pixels_order_and_flags(read, write, load):
    frames = [
        frame(5, label(attributes=dict(Occluded=True)), size=dict(width=60, height=40)),
        frame(0, label(attributes=dict(occluded=False)), size=None),
    ]
    boxes = read('bdd-mot', write('a.json', dict(frames=frames, groups=None, config=None)))
    (video,) = boxes.videos
    assert (video.numbers, video.width) == ((0, 5), 60)
    assert video.tracks[0].boxes == {0: (1, 2, 10, 20), 1: (1, 2, 10, 20)}
    assert video.tracks[0].occlusion == {0: 'no_occlusion', 1: 'slight_occlusion'}
    assert len(load(boxes)) == 1


def test_ignored(read, write):
    labels = [label(i, name) for i, name in enumerate(('trailer', 'other person', 'car'))]
    labels += [label(7, attributes=dict(crowd=True)), label(8, box2d=None)]
    boxes = read('bdd-mot', write('a.json', [frame(0, *labels)]))
    assert [t.key for t in boxes.videos[0].tracks] == ['2']
    assert boxes.notes == {
        'crowds and ignored categories left out': 3,
        'labels without box2d, poly2d and rle left out': 1,
    }


def test_flags_as_text(read, write):
    labels = [label(1, attributes=dict(crowd='true')), label(2, attributes=dict(crowd='false'))]
    labels += [label(3, attributes=dict(Occluded='False')), label(4, attributes=dict(occluded=1))]
    tracks = read('bdd-mot', write('a.json', [frame(0, *labels)])).videos[0].tracks
    assert {t.key: t.occlusion for t in tracks} == {
        '2': {},
        '3': {0: 'no_occlusion'},
        '4': {0: 'slight_occlusion'},
    }


def test_polygons_and_curves(read, write):
    square = dict(vertices=[[0, 0], [4, 0], [4, 4]], types='LLL', closed=True)
    # a cubic curve with both control points at height 8 rises to 3/4 of that
    arch = dict(vertices=[[10, 0], [10, 8], [20, 8], [20, 0]], types='LCCL', closed=True)
    closing = dict(vertices=[[10, 0], [20, 0], [20, 8], [10, 8]], types='LLCC', closed=True)
    for polygons, box in (
        ([square], (0, 0, 4, 4)),
        ([arch], (10, 0, 10, 6)),
        ([closing], (10, 0, 10, 6)),
        ([square, arch], (0, 0, 20, 6)),
    ):
        path = write('a.json', [frame(0, label(box2d=None, poly2d=polygons))])
        assert read('bdd-mot', path).videos[0].tracks[0].boxes[0] == pytest.approx(box)


def test_older_spelling(read, write):
    old = dict(name='a.jpg', video_name='w', frame_index=3, labels=[label()])
    older = dict(name='b.jpg', video_name='w', index=0)
    (video,) = read('bdd-mot', write('a.json', [old, older])).videos
    assert (video.name, video.file_names) == ('w', ('w/b.jpg', 'w/a.jpg'))


def test_one_file_a_video(read, write):
    for name in ('a', 'b'):
        path = write(f'{name}.json', [frame(0, label(), videoName=name)])
    assert [v.name for v in read('bdd-mot', path.parent).videos] == ['a', 'b']


@pytest.mark.parametrize(
    ('frames', 'message'),
    [
        ([frame(0, label(), label())], r'labels\[1\]: object .1. has a second box in frame 0'),
        ([frame(0), frame(0)], r'frames\[1\]: frameIndex 0 of video .v. is also that of frames\[0'),
        ([frame(0, label(key=None))], 'id must be text or a whole number, got None'),
        ([frame(0, label(box2d=dict(x1=1)))], 'y1 must be a number'),
        ([frame(0, label(box2d=dict(BOX, x2=-5)))], 'must not be negative'),
        (
            [frame(0, label(box2d=None, poly2d=[dict(vertices=[[0, 0]], types='C')]))],
            r'poly2d\[0\]: types',
        ),
        *(
            (
                [frame(0, label(box2d=None, poly2d=[dict(vertices=[[0, 0]], types=types)]))],
                r'poly2d\[0\]: types',
            )
            for types in (5, ['L'], [['L']], 'LL', 'X')
        ),
        (
            [frame(0, label(attributes=dict(crowd='maybe')))],
            'crowd must be true or false, got .may',
        ),
        ([frame(0, label(attributes=dict(occluded=[1])))], 'occluded must be true or false'),
        ([frame(0, label(box2d=None, rle=dict(counts='04', size=[2, 1])))], 'rle: run-lengths do'),
        (dict(frames=3), 'the list of frames must be a list'),
    ],
)
def test_what_is_wrong_is_named(read, write, frames, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read('bdd-mot', write('a.json', frames))
    assert 'a.json' in str(error.value)


def test_real_boxes_under_one_image_name(read, formats, load):
    boxes = read('bdd-mot', formats / 'bdd100k_scalabel' / 'scalabel_box_track.json')
    (video,) = boxes.videos
    name = 'b1c66a42-6f7d68ca'
    assert video.file_names == (f'{name}/{name}-0000001.jpg', f'{name}/{name}-0000002.jpg')
    assert [t.key for t in video.tracks] == ['0', '1', '2', '3']
    for position in (0, 1):
        np.testing.assert_allclose(
            video.tracks[0].boxes[position],
            (1000.698742, 281.992415, 1040.626872 - 1000.698742 + 1, 326.91156 - 281.992415 + 1),
        )
    assert load(boxes, (1280, 720)).metainfo['classes'] == ('traffic sign',)


def test_real_cameras(read, formats):
    boxes = read('bdd-mot', formats / 'bdd100k_scalabel' / 'kitti_tracking.json')
    found = [(v.name, v.width, v.height, v.numbers, len(v.tracks)) for v in boxes.videos]
    assert found == [
        ('0001-image_02', 1242, 375, (0, 1), 7),
        ('0001-image_03', 1242, 375, (0, 1), 7),
    ]
    assert boxes.classes == ('pedestrian', 'cyclist', 'car', 'truck', 'tram', 'misc')


def test_real_masks_polygons_and_boxes_agree(read, write, formats):
    folder = formats / 'bdd100k_scalabel'
    path = folder / 'scalabel_segtrack_rle' / 'b1c81faa-3df17267.json'
    tracks = read('bdd-mot', path).videos[0].tracks
    assert {t.key: t.boxes[0] for t in tracks} == {
        'a': (199, 192, 403, 332),
        'b': (62, 278, 150, 84),
        'e': (171, 278, 55, 34),
        'c': (587, 285, 128, 42),
    }
    content = json.loads(path.read_text())
    for name, slack in (('rle', 0), ('poly2d', 1)):
        entries = content['frames'][0]['labels']
        kept = [{k: e[k] for k in ('id', 'category', name)} for e in entries]
        other = read('bdd-mot', write('a.json', [dict(content['frames'][0], labels=kept)]))
        for track, twin in zip(tracks, other.videos[0].tracks, strict=True):
            np.testing.assert_allclose(twin.boxes[0], track.boxes[0], atol=slack, rtol=0)


def test_real_examples(read, formats):
    folder = formats / 'bdd100k_scalabel'
    for name in ('scalabel', 'bdd100k'):
        with pytest.raises(AnnotationError, match=r"labels\[2\]: object 'a' has a second box"):
            read('bdd-mot', folder / name / 'example_annotation.json')
    boxes = read('bdd-mot', folder / 'bdd100k' / 'example_ignore_annotation.json')
    (video,) = boxes.videos
    (track,) = video.tracks
    assert (len(video.numbers), track.key, track.label) == (2, '00109431', 'person')
    np.testing.assert_allclose(
        track.boxes[0], (68.051475, 301.766584, 41.671146, 125.526551), atol=1e-6
    )
    assert track.occlusion == {0: 'slight_occlusion'}
