from __future__ import annotations

import json

import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers.cvat import Outline, between


def only(boxes):
    """Boxes of the only object of the only video."""
    (video,) = boxes.videos
    (track,) = video.tracks
    return dict(track.boxes)


def test_task_without_tracks(read, write, cvat):
    boxes = read('cvat-video', write('a.xml', cvat('')))
    assert [(v.name, len(v.numbers), v.tracks) for v in boxes.videos] == [('walk', 10, ())]
    assert boxes.classes == ('cat', 'dog')


def test_names_that_two_videos_would_share(read, write, cvat):
    for name in ('a', 'b'):
        path = write(f'set/{name}.xml', cvat('', name=name))
    with pytest.raises(AnnotationError, match=r"'b' is called 'frame_000000.PNG', .* {video}"):
        read('cvat-video', path.parent, name_template='frame_{frame:06d}.PNG')


def test_track_without_shapes(read, write, cvat, box):
    tracks = f'<track id="0" label="cat"/><track id="1" label="dog">{box(9, (0, 0, 4, 4))}</track>'
    boxes = read('cvat-video', write('a.xml', cvat(tracks)))
    assert only(boxes) == {9: (0, 0, 4, 4)}
    assert boxes.notes == {'tracks without shapes left out': 1}


def test_one_key_is_carried_to_the_end(read, write, cvat, box, load):
    track = f'<track id="3" label="cat">{box(7, (1, 2, 4, 8))}</track>'
    boxes = read('cvat-video', write('a.xml', cvat(track)))
    assert only(boxes) == {frame: (1, 2, 3, 6) for frame in (7, 8, 9)}
    info = load(boxes).get_data_info(0)
    assert info['instances'].valid.tolist() == [[False] * 7 + [True] * 3]
    assert info['instances'].boxes[0, 9].tolist() == [1, 2, 4, 8]


def test_boxes_between_keys_are_linear(read, write, cvat, box):
    keys = box(2, (0, 0, 10, 10), occluded=1) + box(6, (8, 4, 22, 18), outside=1, occluded=0)
    boxes = read('cvat-video', write('a.xml', cvat(f'<track id="0" label="cat">{keys}</track>')))
    assert only(boxes) == {
        2: (0, 0, 10, 10),
        3: (2, 1, 11, 11),
        4: (4, 2, 12, 12),
        5: (6, 3, 13, 13),
    }
    occlusion = boxes.videos[0].tracks[0].occlusion
    assert occlusion == dict.fromkeys(range(2, 6), 'slight_occlusion')


def test_order_of_keys_in_the_file_does_not_matter(read, write, cvat, box):
    keys = [box(0, (0, 0, 4, 4)), box(2, (2, 0, 6, 4)), box(3, (3, 3, 7, 9), outside=1)]
    found = [
        only(read('cvat-video', write('a.xml', cvat(f'<track id="0" label="cat">{text}</track>'))))
        for text in (''.join(keys), ''.join(reversed(keys)))
    ]
    assert found[0] == found[1] == {0: (0, 0, 4, 4), 1: (1, 0, 4, 4), 2: (2, 0, 4, 4)}


def test_object_that_leaves_and_returns(read, write, cvat, box):
    keys = (
        box(0, (0, 0, 4, 4))
        + box(2, (0, 0, 4, 4), outside=1)
        + box(3, (9, 9, 12, 12), outside=1)
        + box(5, (1, 1, 5, 5))
        + box(6, (1, 1, 5, 5), outside=1)
    )
    boxes = read('cvat-video', write('a.xml', cvat(f'<track id="0" label="cat">{keys}</track>')))
    assert sorted(only(boxes)) == [0, 1, 5]


def test_frames_are_those_of_the_source_video(read, write, cvat, box):
    keys = box(20, (0, 0, 4, 4)) + box(30, (10, 0, 14, 4), outside=1)
    text = cvat(f'<track id="0" label="cat">{keys}</track>', size=4, start=20, rule='step=5')
    boxes = read('cvat-video', write('a.xml', text))
    assert boxes.videos[0].numbers == (20, 25, 30, 35)
    assert boxes.videos[0].file_names[1] == 'walk/000025.jpg'
    assert only(boxes) == {0: (0, 0, 4, 4), 1: (5, 0, 4, 4)}


def test_frame_off_the_grid_is_an_error(read, write, cvat, box):
    text = cvat(
        f'<track id="4" label="cat">{box(21, (0, 0, 4, 4))}</track>',
        size=4, start=20, rule='step=5',
    )  # fmt: skip
    with pytest.raises(AnnotationError, match='track 4, box at frame 21: is not among the frames'):
        read('cvat-video', write('a.xml', text))


def test_rotated_box_becomes_the_upright_one_around_it(read, write, cvat, box):
    track = f'<track id="0" label="cat">{box(9, (10, 20, 30, 24), rotation=90)}</track>'
    # 20 x 4 about (20, 22)
    assert only(read('cvat-video', write('a.xml', cvat(track)))) == {9: (18, 12, 4, 20)}


def test_rotation_takes_the_shorter_arc():
    first, second = (Outline('box', (0, 0, 10, 10), angle) for angle in (350, 30))
    assert between(first, second, 0.5).rotation % 360 == 10


def test_ellipse_and_cuboid(read, write, cvat):
    corners = {
        f'{axis}{corner}{face}': value
        for face in (1, 2)
        for corner, point in zip(('tl', 'bl', 'tr', 'br'), ((1, 2), (1, 9), (7, 2), (7, 9)))
        for axis, value in zip('xy', (point[0] + 3 * face, point[1] + face))
    }
    cuboid = '<cuboid frame="9" ' + ' '.join(f'{k}="{v}"' for k, v in corners.items()) + '/>'
    ellipse = '<ellipse frame="9" cx="10" cy="20" rx="6" ry="3" rotation="90"/>'
    text = cvat(
        f'<track id="0" label="cat">{cuboid}</track><track id="1" label="cat">{ellipse}</track>'
    )
    first, second = read('cvat-video', write('a.xml', text)).videos[0].tracks
    assert first.boxes[9] == (4, 3, 9, 8)
    assert second.boxes[9] == (7, 14, 6, 12)


def test_polygons_are_matched_along_their_length():
    square = Outline('polygon', (0, 0, 8, 0, 8, 8, 0, 8))
    more_points = Outline('polygon', (10, 0, 14, 0, 18, 0, 18, 8, 10, 8))  # the same, moved by 10
    for weight in (0, 0.25, 0.5, 1):
        np.testing.assert_allclose(
            between(square, more_points, weight).box(), (10 * weight, 0, 8, 8), atol=1e-9
        )
    point = Outline('polygon', (4, 4, 4, 4))
    np.testing.assert_allclose(between(square, point, 0.5).box(), (2, 2, 4, 4))


def test_masks_are_not_filled_in(read, write, cvat):
    # rows of 3: .#. / .## in a window at (5, 6)
    mask = '<mask frame="{}" outside="0" rle="1, 1, 2, 2" left="5" top="6" width="3" height="2"/>'
    text = cvat(f'<track id="0" label="cat">{mask.format(2)}{mask.format(8)}</track>')
    assert only(read('cvat-video', write('a.xml', text))) == {2: (6, 6, 2, 2), 8: (6, 6, 2, 2)}


def test_mask_with_a_run_over_the_end_of_a_row(read, write, cvat):
    mask = '<mask frame="2" rle="2, 2, 2" left="0" top="0" width="3" height="2"/>'
    text = cvat(f'<track id="0" label="cat">{mask}</track>')
    assert only(read('cvat-video', write('a.xml', text))) == {2: (0, 0, 3, 2)}


def test_several_tasks_of_a_project(read, write, box):
    tasks = ''.join(
        f'<task><id>{i}</id><name>{name}</name><size>{size}</size><original_size>'
        f'<width>{width}</width><height>50</height></original_size></task>'
        for i, name, size, width in ((7, 'one', 3, 60), (9, 'two', 2, 70), (11, 'none', 4, 80))
    )
    tracks = ''.join(
        f'<track id="{i}" label="cat" task_id="{task}">{box(1, (0, 0, i + 1, 1))}</track>'
        for i, task in enumerate((9, 7, 9))
    )
    text = (
        f'<annotations><meta><project><tasks>{tasks}</tasks><labels><label><name>cat</name>'
        f'</label></labels></project></meta>{tracks}</annotations>'
    )
    boxes = read('cvat-video', write('a.xml', text))
    found = {v.name: (v.width, len(v.numbers), len(v.tracks)) for v in boxes.videos}
    assert found == {'two': (70, 2, 2), 'one': (60, 3, 1), 'none': (80, 4, 0)}
    with pytest.raises(AnnotationError, match="track 0: task_id '8' is none of the tasks"):
        read('cvat-video', write('b.xml', text.replace('task_id="9"', 'task_id="8"')))


def test_several_files_of_a_folder(read, write, cvat, box):
    track = f'<track id="0" label="cat">{box(9, (0, 0, 4, 4))}</track>'
    for name in ('b', 'a'):
        path = write(f'{name}/annotations.xml', cvat(track, name=''))
    boxes = read('cvat-video', path.parent.parent)
    assert [video.name for video in boxes.videos] == ['a', 'b']


def test_job_and_length_by_the_last_frame(read, write, box):
    text = (
        '<annotations><meta><job><id>2</id></job><original_size><width>30</width><height>20'
        f'</height></original_size></meta><track id="0" label="x">{box(4, (0, 0, 4, 4))}</track>'
        '</annotations>'
    )
    (video,) = read('cvat-video', write('cut.xml', text)).videos
    assert (video.name, video.width, video.height, len(video.numbers)) == ('cut', 30, 20, 5)


@pytest.mark.parametrize(
    ('track', 'message'),
    [
        ('<track id="0" label="cat"><blob frame="0"/></track>', "unknown shape 'blob'"),
        ('<track id="0" label="cat"><box frame="0" xtl="1"/></track>', 'ytl must be a number'),
        ('<track id="0"><box frame="0"/></track>', 'label must be text'),
        ('<image id="0" name="a.jpg"/>', '--from cvat-images'),
    ],
)
def test_what_is_wrong_is_named(read, write, cvat, track, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read('cvat-video', write('a.xml', cvat(track)))
    assert 'a.xml' in str(error.value)


def test_flag_and_second_shape(read, write, cvat, box):
    text = cvat(f'<track id="0" label="cat">{box(1, (0, 0, 4, 4), outside=2)}</track>')
    with pytest.raises(AnnotationError, match="box at frame 1: outside must be 0 or 1, got '2'"):
        read('cvat-video', write('a.xml', text))
    text = cvat(f'<track id="0" label="cat">{box(1, (0, 0, 4, 4)) * 2}</track>')
    with pytest.raises(AnnotationError, match='two shapes in this frame'):
        read('cvat-video', write('a.xml', text))


def test_real_file_of_datumaro(read, formats, load):
    boxes = read('cvat-video', formats / 'cvat_video' / 'datumaro' / 'annotations.xml')
    (video,) = boxes.videos
    assert (video.name, video.width, video.height) == ('v1', 25, 20)
    assert video.numbers == (10, 13, 16, 19)
    assert boxes.classes == ('klhg', 'z U k', 'II')
    assert [(t.key, t.label, t.boxes, t.occlusion) for t in video.tracks] == [
        ('0', 'II', {0: (3, 4, 7, 1)}, {0: 'slight_occlusion'})
    ]
    assert boxes.notes == {
        'tracks of points left out, which bound no object': 1,
        'tracks of polyline left out, which bound no object': 1,
    }
    assert load(boxes).metainfo['classes'] == ('klhg', 'z U k', 'II')


def test_real_polygon_track_of_the_documentation(read, formats, load):
    path = formats / 'cvat_docs' / 'xml_format.md.example_interpolation.xml'
    boxes = read('cvat-video', path)
    assert len(boxes.videos[0].numbers) == 4620
    found = only(boxes)
    assert sorted(found) == [0, 6, 13]
    np.testing.assert_allclose(found[0], (318.47, 190.0, 371.11 - 318.47, 237.37 - 190.0))
    np.testing.assert_allclose(found[6], (305.32, 206.32, 355.32 - 305.32, 254.74 - 206.32))
    np.testing.assert_allclose(found[13], (287.95, 220.0, 359.53 - 287.95, 283.16 - 220.0))
    assert load(boxes).get_data_info(0)['instances'].valid.sum() == 3


def as_xml(track):
    """A track of CVAT's server as its exporter writes the key frames."""
    names = {'rectangle': 'box'}
    shapes = ''
    for shape in track['shapes']:
        kind = names.get(shape['type'], shape['type'])
        points = shape['points']
        if kind == 'box':
            place = dict(zip(('xtl', 'ytl', 'xbr', 'ybr'), points, strict=True))
        else:
            pairs = zip(points[::2], points[1::2], strict=True)
            place = dict(points=';'.join(f'{x},{y}' for x, y in pairs))
        flags = {name: int(shape[name]) for name in ('outside', 'occluded', 'frame')}
        shapes += f'<{kind} ' + ' '.join(f'{k}="{v}"' for k, v in {**place, **flags}.items()) + '/>'
    return shapes


@pytest.mark.parametrize(
    ('case', 'frames'),
    [
        # tracks in the order of the file; points, polylines and cuboids left out of the first
        ('CVAT for video 1.1', [[1, 2], [1, 2], [0, 2]]),
        ('CVAT for video 1.1 slice track', [[1, 2]]),
        ('CVAT for video 1.1 slice track keyframe', [[0, 1, 2]]),
        ('CVAT for video 1.1 polygon', [[1, 2]] * 3),
        ('CVAT for video 1.1 attributes in tracks', [[1, 2]]),
    ],
)
def test_real_tracks_of_the_server(read, write, cvat, formats, case, frames):
    content = json.loads((formats / 'cvat_docs' / 'annotations.json').read_text())[case]
    bounding = [t for t in content['tracks'] if t['shapes'][0]['type'] in ('rectangle', 'polygon')]
    tracks = ''.join(
        f'<track id="{i}" label="cat">{as_xml(track)}</track>' for i, track in enumerate(bounding)
    )
    boxes = read('cvat-video', write('a.xml', cvat(tracks, size=3)))
    assert [sorted(track.boxes) for track in boxes.videos[0].tracks] == frames
