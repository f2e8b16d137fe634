from __future__ import annotations

import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError

REST = '-1.9 {} 1.5 1.8 4.9 2.9 1.5 6.3 -1.57'


def row(frame: int, track: int, box: str, kind: str = 'Car', occluded: int = 0) -> str:
    return f'{frame} {track} {kind} 0 {occluded} {REST.format(box)}\n'


def test_empty_file(read, write):
    boxes = read('kitti', write('0000.txt', ''))
    assert boxes.videos == ()
    assert boxes.notes == {'empty files left out': 1}


def test_rows(read, write, load):
    write('b.txt', row(2, 4, '1 2 11 22', occluded=1) + row(0, 4, '1 2 5 6', occluded=3))
    text = row(0, -1, '1 2 3 4', 'DontCare') + row(1, 0, '5 6 7.5 8.5', 'Van', 2)
    path = write('a.txt', text.replace('\n', ' 0.9\n'))
    boxes = read('kitti', path.parent)
    first, second = boxes.videos
    assert first.file_names == ('a/000000.png', 'a/000001.png')
    assert [(t.key, t.label, t.boxes) for t in first.tracks] == [
        ('0', 'Van', {1: (5, 6, 2.5, 2.5)})
    ]
    assert first.tracks[0].occlusion == {1: 'severe_occlusion'}
    assert second.tracks[0].boxes == {0: (1, 2, 4, 4), 2: (1, 2, 10, 20)}
    assert second.tracks[0].occlusion == {2: 'slight_occlusion'}
    assert boxes.notes == {'DontCare regions left out': 1}
    assert load(boxes).metainfo['classes'] == ('Van', 'Car')


def test_what_is_wrong_is_named(read, write):
    with pytest.raises(AnnotationError, match=r'a.txt: line 1: has 3 columns, expected 17'):
        read('kitti', write('a.txt', '0 1 Car\n'))
    with pytest.raises(AnnotationError, match='width and height must not be negative'):
        read('kitti', write('a.txt', row(0, 1, '9 2 3 4')))


def test_real_file(read, formats, load):
    boxes = read('kitti', formats / 'kitti_tracking')
    (video,) = boxes.videos
    assert (video.name, len(video.numbers)) == ('0001.frames0-14', 15)
    assert (len(video.tracks), sum(len(t.boxes) for t in video.tracks)) == (12, 120)
    assert boxes.classes == ('Car',)
    assert boxes.notes == {'DontCare regions left out': 98}
    np.testing.assert_allclose(
        video.tracks[0].boxes[0],
        (776.295323, 167.346734, 1241 - 776.295323, 374 - 167.346734),
    )
    more = ('slight', 'severe')
    levels = [track.occlusion[0] for track in video.tracks[:7]]
    assert levels == [f'{level}_occlusion' for level in ('no', *more, 'no', 'slight', *more)]
    assert load(boxes, (1242, 375)).get_data_info(0)['instances'].valid.sum() == 120


def test_real_file_agrees_with_what_scalabel_made_of_it(read, formats):
    (video,) = read('kitti', formats / 'kitti_tracking').videos
    left = read('bdd-mot', formats / 'bdd100k_scalabel' / 'kitti_tracking.json').videos[0]
    assert left.name == '0001-image_02'
    theirs = {track.key: track.boxes for track in left.tracks}
    assert len(theirs) == 7
    for track in video.tracks[:7]:
        for frame in (0, 1):
            np.testing.assert_allclose(track.boxes[frame], theirs[track.key][frame], atol=1e-6)
