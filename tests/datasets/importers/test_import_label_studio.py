from __future__ import annotations

import cmath
import json
import math
from typing import Any

import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError

SIZE = (200, 100)


def key(frame: int, x: float, enabled: bool = True, **more: Any) -> dict[str, Any]:
    return dict(dict(frame=frame, x=x, y=10, width=20, height=40, enabled=enabled), **more)


def region(*keys: dict[str, Any], frames: int | None = 10, **more: Any) -> dict[str, Any]:
    value = dict(sequence=list(keys), labels=['cat'], framesCount=frames)
    return dict(dict(type='videorectangle', id='r1', value=value), **more)


def task(*regions: dict[str, Any], video: str = 'https://x.y/data/upload/3/walk%20a.mp4?x=1'):
    return dict(data=dict(text='no', video=video), annotations=[dict(result=list(regions))])


def only(boxes):
    (video,) = boxes.videos
    (track,) = video.tracks
    return dict(track.boxes)


def test_no_regions(read, write):
    boxes = read('label-studio', write('a.json', [task()]), size=SIZE)
    assert boxes.videos == ()
    assert boxes.notes == {'tasks without video rectangles left out': 1}


def test_an_enabled_key_lasts_to_the_end(read, write, load):
    boxes = read('label-studio', write('a.json', [task(region(key(8, 5)))]), size=SIZE)
    assert only(boxes) == dict.fromkeys((7, 8, 9), (10, 10, 40, 40))
    (video,) = boxes.videos
    assert (video.name, video.width, video.height, video.numbers[0]) == ('walk a', 200, 100, 1)
    assert load(boxes).get_data_info(0)['instances'].valid.sum() == 3


def test_phases(read, write):
    keys = (
        key(2, 0),
        key(4, 10, False),
        key(6, 20),
        key(7, 0),
        key(8, 50, False),
        key(10, 0, False),
    )
    boxes = read('label-studio', write('a.json', task(region(*keys))), size=SIZE)
    left = {frame + 1: box[0] for frame, box in only(boxes).items()}
    assert left == {2: 0, 3: 10, 4: 20, 6: 40, 7: 0, 8: 100, 10: 0}


def test_negative_size_is_the_opposite_corner(read, write):
    keys = key(10, 50, width=-20, height=-5)
    boxes = read('label-studio', write('a.json', task(region(keys))), size=SIZE)
    assert only(boxes) == {9: (60, 5, 40, 5)}


def test_rotation_is_clockwise_about_the_first_corner(read, write):
    boxes = read('label-studio', write('a.json', task(region(key(10, 50, rotation=90)))), size=SIZE)
    # 40 x 40 pixels from (100, 10) turn to the left of that corner
    assert only(boxes)[9] == pytest.approx((60, 10, 40, 40))
    keys = (key(8, 50), key(10, 50, False, rotation=90))
    half = only(read('label-studio', write('a.json', task(region(*keys))), size=SIZE))[8]
    side = 40 * math.sqrt(2)
    assert half == pytest.approx((100 - side / 2, 10, side, side))


def test_several_tasks_annotations_and_predictions(read, write):
    first = task(region(key(10, 0)), video='a.mp4')
    first['annotations'].insert(0, dict(result=[], was_cancelled=True))
    first['annotations'].append(dict(result=[region(key(1, 0))]))
    second = dict(predictions=[dict(result=[region(key(9, 0), id=None)])])
    extra = dict(type='choices', value=dict(choices=['x']))
    second['predictions'][0]['result'].append(extra)
    boxes = read('label-studio', write('tasks.json', [first, second]), size=SIZE)
    assert [(v.name, [sorted(t.boxes) for t in v.tracks]) for v in boxes.videos] == [
        ('a', [[9]]),
        ('tasks_2', [[8, 9]]),
    ]
    assert boxes.notes == {
        'further annotations of the same task left out': 1,
        "results of type 'choices' left out": 1,
    }


def test_predictions_stand_in_for_what_was_cancelled(read, write):
    cancelled = dict(task(region(key(10, 0)), video='a.mp4'))
    cancelled['annotations'][0]['was_cancelled'] = True
    predicted = dict(cancelled, predictions=[dict(result=[region(key(9, 0))])])
    nothing = dict(annotations=[], predictions=[])
    boxes = read('label-studio', write('a.json', [cancelled, predicted, nothing]), size=SIZE)
    assert only(boxes).keys() == {8, 9}
    assert boxes.notes == {'tasks without annotation and prediction left out': 2}


def test_region_without_keys(read, write):
    boxes = read('label-studio', write('a.json', task(region(), region(key(10, 0)))), size=SIZE)
    assert only(boxes).keys() == {9}
    assert boxes.notes == {'regions without a key frame left out': 1}


def test_labels_may_be_missing(read, write):
    bare = region(key(10, 0))
    del bare['value']['labels']
    path = write('a.json', task(bare))
    assert read('label-studio', path, size=SIZE).classes == ('object',)
    assert read('label-studio', path, size=SIZE, label='thing').classes == ('thing',)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (task(region(key(11, 0))), 'frame 11: frame 10 of a video of 10 frames'),
        (task(region(key(0, 0))), r'sequence\[0\]: frame must be a whole number from 1'),
        (task(region(key(1, 0), key(1, 0))), 'frame 1 has two keys'),
        (task(region(key(1, 0, 'yes'))), 'enabled must be true or false'),
        (task(region(key(1, None))), r'result\[0\], sequence\[0\]: x must be a number'),
        (dict(data=dict()), r'annotations \(or predictions\) must be a list'),
        ([3], 'a task must be an object'),
        (task(video='http://[bad'), r"the video 'http://\[bad': Invalid IPv6 URL"),
    ],
)
def test_what_is_wrong_is_named(read, write, content, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read('label-studio', write('a.json', content), size=SIZE)
    assert 'a.json' in str(error.value)


def enclosing_by_complex_numbers(x, y, w, h, degrees, size):
    turn = cmath.rect(1, math.radians(degrees))
    x, w, y, h = (v * side / 100 for v, side in zip((x, w, y, h), np.repeat(size, 2)))
    corners = [complex(x, y) + turn * complex(a, b) for a in (0, w) for b in (0, h)]
    left, top = min(c.real for c in corners), min(c.imag for c in corners)
    return left, top, max(c.real for c in corners) - left, max(c.imag for c in corners) - top


def test_real_annotation(read, formats, load):
    path = formats / 'labelstudio_video' / 'video_bboxes' / 'annotations' / '1.json'
    with pytest.raises(AnnotationError, match='give it with --size WIDTH HEIGHT'):
        read('label-studio', path)
    size = (1280, 720)
    boxes = read('label-studio', path, size=size)
    (video,) = boxes.videos
    assert len(video.numbers) == 1009
    car, plane, possum = video.tracks
    assert [t.label for t in video.tracks] == ['Car', 'Airplane', 'Possum']
    assert sorted(car.boxes) == list(range(5))
    assert sorted(plane.boxes) == [*range(32, 57), *range(75, 1009)]
    assert sorted(possum.boxes) == list(range(5, 1009))
    # frame 3 is half way between the keys 1 and 5; percent of 1280 and 720
    np.testing.assert_allclose(car.boxes[2], (502.6133, 319.67105, 529.06667, 159.8579), atol=1e-4)
    # y 92.0833 is the lower edge
    np.testing.assert_allclose(plane.boxes[32], (277, 548, 165, 115), atol=1e-9)
    values = (61.559107293190365, 42.20702037584792, 10.960969617939583, 29.506268116286332)
    expected = enclosing_by_complex_numbers(*values, -31.861138243953643, size)
    np.testing.assert_allclose(possum.boxes[5], expected)
    # between the keys 15 and 17 only the width changes
    first, second = (
        enclosing_by_complex_numbers(52.0749873, 48.7001305, w, 35.0931367, -4.59244593, size)
        for w in (11.947794396636684, 11.178512347669978)
    )
    np.testing.assert_allclose(possum.boxes[15], np.add(first, second) / 2, atol=1e-4)
    assert load(boxes).metainfo['classes'] == ('Car', 'Airplane', 'Possum')


def test_real_prediction(read, formats, load):
    path = formats / 'labelstudio_video' / 'opossum_snow_short_1.json'
    boxes = read('label-studio', path, size=(1920, 1080))
    (video,) = boxes.videos
    assert (len(video.numbers), len(video.tracks)) == (35, 16)
    (prediction,) = json.loads(path.read_text())
    for track, entry in zip(video.tracks, prediction['result'], strict=True):
        sequence = entry['value']['sequence']
        assert sorted(track.boxes) == [item['frame'] - 1 for item in sequence]
    x, y, w, h = 0.033081695437431335, 0.21235346794128418, 9.073616564273834, 57.975852489471436
    np.testing.assert_allclose(
        video.tracks[0].boxes[0], (x * 19.2, y * 10.8, w * 19.2, h * 10.8), rtol=1e-9
    )
    assert load(boxes).metainfo['classes'] == ('person',)
