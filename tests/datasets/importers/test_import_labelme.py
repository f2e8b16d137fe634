from __future__ import annotations

import math
from typing import Any

import pytest

from mmboxvis.datasets import AnnotationError


def image(name: str, *shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = dict(imagePath=name, imageHeight=40, imageWidth=60, imageData=None)
    return dict(content, shapes=list(shapes), **more)


def shape(label: str = 'cat', kind: str | None = 'rectangle', *points, **more: Any):
    corners = points or ((5, 9), (1, 2))
    return dict(dict(label=label, points=corners, shape_type=kind, group_id=None), **more)


def test_no_shapes(read, write):
    (video,) = read('labelme', write('a.json', image('a.jpg'))).videos
    assert (video.name, video.file_names, video.tracks) == ('a', ('a.jpg',), ())
    assert (video.width, video.height) == (60, 40)


def test_videos_by_folder_and_objects_by_group(read, write, load):
    write('walk/01.json', image('01.jpg', shape(group_id=4), shape(group_id=5)))
    write('walk/02.json', image('02.jpg', shape('cat', 'rectangle', (3, 3), (4, 5), group_id=4)))
    path = write('run/01.json', image('01.jpg', shape()))
    boxes = read('labelme', path.parent.parent)
    run, walk = boxes.videos
    assert (run.name, run.file_names) == ('run', ('run/01.jpg',))
    assert {t.key: t.boxes for t in walk.tracks} == {
        'cat 4': {0: (1, 2, 4, 7), 1: (3, 3, 1, 2)},
        'cat 5': {0: (1, 2, 4, 7)},
    }
    assert len(load(boxes)) == 2


def test_frames_are_in_the_order_of_their_numbers(read, write):
    for number in (10, 2, 1):
        path = write(f'v/{number}.json', image(f'{number}.jpg'))
    (video,) = read('labelme', path.parent).videos
    assert video.file_names == ('1.jpg', '2.jpg', '10.jpg')


def test_kinds_of_shapes(read, write):
    shapes = [
        shape('a', 'polygon', (1, 2), (7, 3), (4, 9)),
        shape('b', None, (1, 2), (7, 3)),
        shape('c', 'circle', (10, 10), (13, 14)),
        shape('d', 'mask', (1, 1), (4, 5)),
        shape('e', 'line'),
        shape('_background_'),
    ]
    boxes = read('labelme', write('a.json', image('a.jpg', *shapes)))
    assert [t.boxes[0] for t in boxes.videos[0].tracks] == [
        (1, 2, 6, 7),
        (1, 2, 6, 1),
        (5, 5, 10, 10),
        (1, 1, 4, 5),
    ]
    assert boxes.notes == {
        'shapes of kind line left out, which bound no object': 1,
        'shapes labelled _background_ left out': 1,
    }


def test_identity_by_a_field(read, write):
    write('v/1.json', image('1.jpg', shape(track_id='x'), shape(track_id=3)))
    path = write('v/2.json', image('2.jpg', shape(track_id=3)))
    (video,) = read('labelme', path.parent, identity='attribute:track_id').videos
    assert {t.key: sorted(t.boxes) for t in video.tracks} == {'x': [0], '3': [0, 1]}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (image('a.jpg', shape('cat', 'circle', (1, 2))), r'shapes\[0\]: a circle has 1 points'),
        (image('a.jpg', shape('cat', 'blob')), "unknown shape_type 'blob'"),
        (image('a.jpg', shape('cat', 'polygon', (1, 'x'))), 'y must be a number'),
        (image('a.jpg', shape(group_id='x')), 'group_id must be a whole number'),
        (image('a.jpg', imageWidth=None), 'imageWidth must be a whole number'),
        (image(''), 'imagePath must be text'),
        (dict(imagePath='a.jpg'), 'shapes must be a list, got None'),
    ],
)
def test_what_is_wrong_is_named(read, write, content, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read('labelme', write('a.json', content))
    assert 'a.json' in str(error.value)


def test_real_video(read, formats, load):
    folder = formats / 'labelme' / 'video_annotation'
    with pytest.raises(AnnotationError, match=r'00000100.json: shapes\[0\]: nothing tells'):
        read('labelme', folder)
    boxes = read('labelme', folder, identity='order')
    (video,) = boxes.videos
    assert video.file_names == tuple(f'0000010{i}.jpg' for i in range(5))
    assert (video.width, video.height) == (1000, 563)
    assert {t.key: (t.label, len(t.boxes)) for t in video.tracks} == {
        'track 1': ('track', 5),
        'track 2': ('track', 5),
        'car 1': ('car', 5),
    }
    second = video.tracks[1].boxes
    assert second[0] == (860, 186, 138, 167) and second[4] == (860, 186, 138, 168)
    assert all(box == (905, 306, 95, 126) for box in video.tracks[2].boxes.values())
    assert load(boxes).get_data_info(0)['instances'].valid.all()


def test_real_object_in_parts(read, formats):
    path = formats / 'labelme' / 'instance_segmentation' / '2011_000006.json'
    boxes = read('labelme', path)
    tracks = boxes.videos[0].tracks
    assert [t.label for t in tracks] == ['person', 'person', 'person', 'chair', 'person', 'sofa']
    # the small part at x 58.9 to 103.9 reaches lowest
    sofa = tracks[5].boxes[0]
    assert sofa[:2] == pytest.approx((18.936170212766, 140.56382978723406))
    assert sofa[1] + sofa[3] == pytest.approx(311.56382978723406)
    assert boxes.notes == {
        'shapes labelled __ignore__ left out': 1,
        'shapes joined to one object with others of its image': 3,
    }


def test_real_rectangles_and_primitives(read, formats):
    (video,) = read('labelme', formats / 'labelme' / 'bbox_detection').videos
    assert video.tracks[0].boxes[0] == (91, 107, 149, 223)
    assert (len(video.tracks), video.tracks[3].boxes[0]) == (4, (395, 81, 52, 36))
    boxes = read('labelme', formats / 'labelme' / 'primitives.json')
    found = {t.label: t.boxes[0] for t in boxes.videos[0].tracks}
    radius = math.hypot(30, 41)
    assert found['circle'] == pytest.approx((195 - radius, 84 - radius, 2 * radius, 2 * radius))
    assert found['polygon'] == (45, 318, 153, 88)
    assert found['octagon'] == pytest.approx((417.39759, 305, 100, 100), abs=1e-4)
    assert sum(boxes.notes.values()) == 3
