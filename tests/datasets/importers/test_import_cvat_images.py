from __future__ import annotations

import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError


def images_xml(*images: tuple[str, str], size: str = 'width="60" height="40"') -> str:
    body = ''.join(
        f'<image id="{i}" name="{name}" {size}>{shapes}</image>'
        for i, (name, shapes) in enumerate(images)
    )
    return (
        '<annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta>'
        f'{body}</annotations>'
    )


def shape(x: int, extra: str = '', inside: str = '', label: str = 'cat') -> str:
    place = f'xtl="{x}" ytl="1" xbr="{x + 5}" ybr="9"'
    return f'<box label="{label}" {place} {extra}>{inside}</box>'


def test_no_shapes(read, write):
    boxes = read('cvat-images', write('set.xml', images_xml(('a.jpg', ''), ('b.jpg', ''))))
    assert [(v.name, v.file_names) for v in boxes.videos] == [('set', ('a.jpg', 'b.jpg'))]


def test_identity_by_group(read, write, load):
    text = images_xml(
        ('walk/0.jpg', shape(1, 'group_id="4"') + shape(20, 'group_id="5" occluded="1"')),
        ('walk/1.jpg', shape(3, 'group_id="4"')),
        ('run/0.jpg', shape(7, 'group_id="4"')),
    )
    boxes = read('cvat-images', write('set.xml', text))
    walk, run = boxes.videos
    assert [(t.key, t.boxes) for t in walk.tracks] == [
        ('cat 4', {0: (1, 1, 5, 8), 1: (3, 1, 5, 8)}),
        ('cat 5', {0: (20, 1, 5, 8)}),
    ]
    assert walk.tracks[1].occlusion == {0: 'slight_occlusion'}
    assert [t.boxes for t in run.tracks] == [{0: (7, 1, 5, 8)}]
    assert len(load(boxes)) == 2


def test_parts_of_an_object_share_a_box(read, write):
    text = images_xml(('0.jpg', shape(1, 'group_id="4"') + shape(20, 'group_id="4"')))
    (video,) = read('cvat-images', write('set.xml', text)).videos
    assert [t.boxes for t in video.tracks] == [{0: (1, 1, 24, 8)}]
    # 0 is no group
    zero = images_xml(('0.jpg', shape(1, 'group_id="0"') + shape(20, 'group_id="0"')))
    (video,) = read('cvat-images', write('zero.xml', zero)).videos
    assert [t.boxes for t in video.tracks] == [{0: (1, 1, 5, 8)}, {0: (20, 1, 5, 8)}]
    # a slip of the mouse is no part
    point = '<box label="cat" xtl="50" ytl="30" xbr="50" ybr="30" group_id="4"/>'
    boxes = read(
        'cvat-images', write('b.xml', images_xml(('0.jpg', shape(1, 'group_id="4"') + point)))
    )
    assert boxes.videos[0].tracks[0].boxes == {0: (1, 1, 5, 8)}
    assert boxes.notes == {'boxes without area left out': 1}


def test_two_classes_with_one_number(read, write):
    number = '<attribute name="track_id">1</attribute>'
    shapes = [shape(x, 'group_id="1"', number, label) for x, label in ((1, 'car'), (20, 'bus'))]
    path = write('set.xml', images_xml(('0.jpg', ''.join(shapes)), ('1.jpg', '')))
    with pytest.raises(AnnotationError, match=r"shape 1 .* object '1' is 'bus' here, but 'car' in"):
        read('cvat-images', path, identity='attribute:track_id')
    for identity in ('group_id', 'none'):  # groups count for each label
        boxes = read('cvat-images', path, identity=identity)
        assert {t.label: t.boxes for t in boxes.videos[0].tracks} == {
            'car': {0: (1, 1, 5, 8)},
            'bus': {0: (20, 1, 5, 8)},
        }


def test_videos_by_file_task_and_folder(read, write):
    text = images_xml(('0.jpg', shape(1, 'group_id="1"')))
    for name in ('walk/annotations', 'run/annotations', 'run/jump'):
        path = write(f'set/{name}.xml', text.replace('0.jpg', f'{name}.jpg'.replace('/', '_')))
    names = [video.name for video in read('cvat-images', path.parents[1]).videos]
    assert names == ['run', 'jump', 'walk']
    # two tasks of a project, each with the folder a
    tasks = ''.join(
        f'<task><id>{i}</id><name>{name}</name></task>' for i, name in ((7, 'x'), (8, 'y'))
    )
    image = '<image id="0" task_id="{0}" name="{1}" width="60" height="40"/>'
    for names, wanted in (
        (('a/0.jpg', 'a/1.jpg'), ['set/x/a', 'set/y/a']),
        (('0.jpg', 'b/1.jpg'), ['x', 'b']),
    ):
        body = ''.join(image.format(task, name) for task, name in zip((7, 8), names))
        text = f'<annotations><meta><project>{tasks}</project></meta>{body}</annotations>'
        boxes = read('cvat-images', write('set.xml', text))
        assert [(v.name, v.file_names) for v in boxes.videos] == [
            (video, (name,)) for video, name in zip(wanted, names)
        ]


def test_images_of_two_videos_under_one_name(read, write):
    for name in ('a', 'b'):
        path = write(f'set/{name}.xml', images_xml(('0.jpg', '')))
    with pytest.raises(AnnotationError, match=r"'b' is called '0.jpg', and so .* 'a'; .* {video}"):
        read('cvat-images', path.parent)
    boxes = read('cvat-images', path.parent, name_template='{video}/{stem}.jpg')
    assert [v.file_names for v in boxes.videos] == [('a/0.jpg',), ('b/0.jpg',)]


def test_identity_by_attribute(read, write):
    who = '<attribute name="who">{}</attribute><attribute name="x">1</attribute>'
    text = images_xml(
        ('0.jpg', shape(1, inside=who.format('a')) + shape(2, inside=who.format('b'))),
        ('1.jpg', shape(3, inside=who.format('b'))),
    )
    (video,) = read('cvat-images', write('s.xml', text), identity='attribute:who').videos
    assert {t.key: sorted(t.boxes) for t in video.tracks} == {'a': [0], 'b': [0, 1]}


def test_no_identity_is_an_error_in_a_video_only(read, write):
    path = write('set.xml', images_xml(('0.jpg', shape(1)), ('1.jpg', shape(2))))
    with pytest.raises(AnnotationError, match=r'image 0.jpg, shape 0 \(box\): nothing tells'):
        read('cvat-images', path)
    assert [v.name for v in read('cvat-images', path, identity='none').videos] == ['0', '1']
    alone = write('one.xml', images_xml(('0.jpg', shape(1) + shape(2))))
    assert len(read('cvat-images', alone).videos[0].tracks) == 2


def test_identity_by_numbered_label_and_by_order(read, write):
    text = images_xml(
        ('0.jpg', shape(1, label='red car-12') + shape(9, label='red car-2')),
        ('1.jpg', shape(2, label='red car-2')),
    )
    path = write('set.xml', text.replace('>cat<', '>cat-1<'))
    (video,) = read('cvat-images', path, identity='label').videos
    assert read('cvat-images', path, identity='label').classes == ('cat', 'red car')
    assert {t.key: (t.label, sorted(t.boxes)) for t in video.tracks} == {
        'red car-12': ('red car', [0]),
        'red car-2': ('red car', [0, 1]),
    }
    text = images_xml(('0.jpg', shape(1) + shape(9)), ('1.jpg', shape(2)))
    (video,) = read('cvat-images', write('order.xml', text), identity='order').videos
    assert {t.key: sorted(t.boxes) for t in video.tracks} == {'cat 1': [0, 1], 'cat 2': [0]}
    with pytest.raises(AnnotationError, match="'cat' has no number at its end"):
        read('cvat-images', write('order.xml', text), identity='label')


def test_frames_come_in_the_order_of_ids(read, write):
    text = images_xml(('b.jpg', ''), ('a.jpg', ''))
    assert read('cvat-images', write('s.xml', text)).videos[0].file_names == ('b.jpg', 'a.jpg')


def test_real_project(read, formats, load):
    path = formats / 'cvat_images' / 'datumaro_export_project' / 'annotations.xml'
    with pytest.raises(AnnotationError, match=r'10 x 10 pixels, but Test/img0.jpg .* is 8 x 8'):
        read('cvat-images', path)
    boxes = read('cvat-images', path, identity='none')
    found = [
        (v.file_names, v.width, [(t.label, t.boxes, t.occlusion) for t in v.tracks])
        for v in boxes.videos
    ]
    first = [('label1', {0: (0, 2, 4, 2)}, {0: 'slight_occlusion'})]
    second = [('label1', {0: (1, 2, 5, 3)}, {})]
    assert found == [
        ((f'{subset}/{name}.jpg',), size, tracks)
        for subset in ('Test', 'Train', 'Validation')
        for name, size, tracks in (('img0', 8, first), ('img1', 10, second))
    ]
    assert len(load(boxes)) == 6


def test_real_task(read, formats):
    path = formats / 'cvat_images' / 'datumaro_export_task' / 'train.xml'
    boxes = read('cvat-images', path, identity='none')
    assert [[t.boxes for t in v.tracks] for v in boxes.videos] == [[{0: (0, 2, 4, 2)}], []]
    assert boxes.notes == {
        'shapes of kind polyline left out, which bound no object': 1,
        'shapes of kind points left out, which bound no object': 1,
        'shapes without a label left out': 1,
    }


def test_real_shapes_of_the_documentation(read, formats, load):
    path = formats / 'cvat_docs' / 'xml_format.md.example_annotation.xml'
    boxes = read('cvat-images', path)
    plate, car, mask = boxes.videos[0].tracks
    assert (plate.label, car.label, mask.label) == ('plate', 'car', 'car')
    np.testing.assert_allclose(plate.boxes[0], (797.33, 870.92, 168.19, 58.02), atol=1e-6)
    # read off the points: x 528.40 to 1225.77, y 264.91 to 985.31
    np.testing.assert_allclose(car.boxes[0], (528.4, 264.91, 697.37, 720.4), atol=1e-6)
    # the runs begin and end in the middle of the first and last row, and reach both sides
    assert mask.boxes[0] == (707, 888, 13, 15)
    assert load(boxes).get_data_info(0)['instances'].boxes.shape == (3, 1, 4)
