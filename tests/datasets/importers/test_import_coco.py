from __future__ import annotations

import copy

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmboxvis.apis.mask_exports import to_coco
from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import to_ytvis

SIZE = dict(width=30, height=20)


def annotation(key: int, image: int, x: float = 1, **fields: object) -> dict:
    return dict(id=key, image_id=image, category_id=4, bbox=[x, 2, 5, 6], **fields)


def coco(names: list[str], *annotations: dict, **fields: list) -> dict:
    """Images numbered from 1, each field a list of one value an image."""
    images = [dict(id=key, file_name=name, **SIZE) for key, name in enumerate(names, start=1)]
    for field, values in fields.items():
        for image, value in zip(images, values, strict=True):
            image[field] = value
    categories = [dict(id=4, name='cat')]
    return dict(images=images, annotations=list(annotations), categories=categories)


def frames(boxes) -> dict[str, tuple[str, ...]]:
    return {video.name: video.file_names for video in boxes.videos}


def tracks(video) -> dict[str, list[int]]:
    return {track.key: sorted(track.boxes) for track in video.tracks}


def test_no_annotations(read, write):
    boxes = read('coco', write('set.json', coco(['a/0.jpg'])))
    assert (frames(boxes), boxes.videos[0].tracks) == ({'a': ('a/0.jpg',)}, ())
    with pytest.raises(AnnotationError, match=r'set.json: images is empty'):
        read('coco', write('set.json', coco([])))


def test_videos_by_id_and_frames_by_number(read, write, load):
    content = coco(
        ['walk/b.jpg', 'run/a.jpg', 'walk/a.jpg'],
        annotation(1, 1, track_id=7),
        annotation(2, 2, instance_id=7, occluded=1),
        annotation(3, 3, track_id=7),
        video_id=[5, 6, 5],
        frame_id=[8, 0, 2],
    )
    boxes = read('coco', write('set.json', content))
    walk, run = boxes.videos
    assert frames(boxes) == {'walk': ('walk/a.jpg', 'walk/b.jpg'), 'run': ('run/a.jpg',)}
    assert (walk.numbers, walk.width, walk.height) == ((2, 8), 30, 20)
    assert (tracks(walk), tracks(run)) == ({'7': [0, 1]}, {'7': [0]})
    assert run.tracks[0].occlusion == {0: 'slight_occlusion'}
    assert len(load(boxes)) == 2


def test_videos_by_id_alone(read, write):
    content = coco(['x/10.jpg', 'x/2.jpg', 'x/3.jpg'], video_id=[1, 1, 2])
    # one folder for two videos: it names neither
    wanted = {'video_1': ('x/2.jpg', 'x/10.jpg'), 'video_2': ('x/3.jpg',)}
    assert frames(read('coco', write('set.json', content))) == wanted
    content['videos'] = [dict(id=1, name='walk'), dict(id=2), dict(id=3, name='walk')]
    assert list(frames(read('coco', write('set.json', content)))) == ['walk', 'video_2']


@pytest.mark.parametrize(
    ('names', 'wanted'),
    [
        (['b/10.jpg', 'b/9.jpg', 'a/x.jpg'], {'a': ['a/x.jpg'], 'b': ['b/9.jpg', 'b/10.jpg']}),
        (['w_2.jpg', 'w_1.jpg', 'r_1.jpg'], {'r': ['r_1.jpg'], 'w': ['w_1.jpg', 'w_2.jpg']}),
        (['0002.jpg', '0001.jpg'], {'set': ['0001.jpg', '0002.jpg']}),
        (['alone.jpg'], {'set': ['alone.jpg']}),
    ],
)
def test_videos_by_file_names(read, write, names, wanted):
    boxes = read('coco', write('set.json', coco(names)))
    assert frames(boxes) == {video: tuple(found) for video, found in wanted.items()}


def test_numbers_against_the_order_of_names_give_way_to_those(read, write):
    content = coco(['w_2.jpg', 'w_1.jpg'], frame_id=[4, 9])
    (video,) = read('coco', write('set.json', content)).videos
    assert (video.file_names, video.numbers) == (('w_1.jpg', 'w_2.jpg'), (1, 2))
    content['images'].reverse()
    content['images'][0]['frame_id'] = 3
    (video,) = read('coco', write('set.json', content)).videos
    assert (video.file_names, video.numbers) == (('w_1.jpg', 'w_2.jpg'), (3, 4))


def test_identity(read, write):
    content = coco(
        ['a/0.jpg', 'a/1.jpg'],
        # as CVAT writes them
        annotation(1, 1, attributes=dict(track_id=0, who='tom', occluded=True)),
        annotation(2, 2, attributes=dict(track_id=0, who='tim')),
        annotation(3, 2, track_id='5', who='tom'),
    )
    path = write('set.json', content)
    (video,) = read('coco', path).videos
    assert tracks(video) == {'0': [0, 1], '5': [1]}
    assert video.tracks[0].occlusion == {0: 'slight_occlusion'}
    assert tracks(read('coco', path, identity='attribute:who').videos[0]) == {
        'tom': [0, 1],
        'tim': [1],
    }
    assert tracks(read('coco', path, identity='order').videos[0]) == {'cat 1': [0, 1], 'cat 2': [1]}
    assert [v.name for v in read('coco', path, identity='none').videos] == ['a/0', 'a/1']
    content['annotations'][2].pop('track_id')
    with pytest.raises(AnnotationError, match=r'annotations\[2\]: nothing tells which object'):
        read('coco', write('set.json', content))


def test_class_that_is_corrected_in_a_frame(read, write):
    content = coco(
        ['a/0.jpg', 'a/1.jpg', 'a/2.jpg'], *(annotation(t, t, track_id=1) for t in (1, 2, 3))
    )
    content['categories'].append(dict(id=5, name='dog'))
    content['annotations'][1]['category_id'] = 5
    boxes = read('coco', write('set.json', content))
    (track,) = boxes.videos[0].tracks
    assert (track.label, sorted(track.boxes)) == ('cat', [0, 1, 2])
    assert boxes.notes == {'objects of changing class given the most frequent one': 1}


def test_parts_are_told_of_and_have_one_class(read, write):
    parts = [annotation(1, 1, track_id=1), annotation(2, 1, 20, track_id=1)]
    content = coco(['a/0.jpg'], *parts, dict(annotation(3, 1, track_id=1), bbox=[0, 0, 0, 9]))
    boxes = read('coco', write('set.json', content))
    assert boxes.videos[0].tracks[0].boxes == {0: (1, 2, 24, 6)}
    assert boxes.notes == {
        'boxes without area left out': 1,
        'shapes joined to one object with others of its image': 1,
    }
    content['categories'].append(dict(id=5, name='dog'))
    content['annotations'][1]['category_id'] = 5
    with pytest.raises(
        AnnotationError, match=r"tions\[1\]: object '1' is 'dog' here, but 'cat' in"
    ):
        read('coco', write('set.json', content))
    content['annotations'] = [dict(parts[0], bbox=[9, 9, -5, 5]), annotation(2, 1, track_id=1)]
    with pytest.raises(AnnotationError, match=r'tions\[0\]: .* must not be negative'):
        read('coco', write('set.json', content))


def test_classes_of_numbered_labels(read, write):
    content = coco(['a/0.jpg', 'a/1.jpg'], annotation(1, 1), annotation(2, 2))
    content['categories'] = [
        dict(id=4, name='car-1'),
        dict(id=5, name='car-2'),
        dict(id=6, name='x'),
    ]
    boxes = read('coco', write('set.json', content), identity='label')
    assert boxes.classes == ('car', 'x')


def test_left_out(read, write):
    content = coco(
        ['a/0.jpg'],
        annotation(1, 1, track_id=1, iscrowd=1),
        annotation(2, 1, track_id=2, ignore=True),
        dict(annotation(3, 1, track_id=3), category_id=9),
    )
    boxes = read('coco', write('set.json', content))
    assert [track.label for track in boxes.videos[0].tracks] == ['category_9']
    assert boxes.notes == {
        'crowd and ignored annotations left out': 2,
        'boxes of a category that the file does not name: category_9': 1,
    }


@pytest.mark.parametrize(
    ('part', 'index', 'change', 'message'),
    [
        ('images', 1, dict(video_id=None), r'images\[1\]: has no video_id, though others have'),
        ('images', 1, dict(frame_id=None), r'images\[1\]: has no frame_id, though others of vid'),
        ('images', 1, dict(frame_id=0), r'images\[1\]: frame_id 0 of video 5 is used twice'),
        ('images', 1, dict(id=1), r'images\[1\]: id 1 is used twice'),
        ('images', 1, dict(width=31), r'images\[1\]: is 31 x 20 pixels, but a/0.jpg .* 30 x 20'),
        ('images', 1, dict(file_name='../0.jpg'), r'images\[1\]: file_name .* leads out of'),
        ('annotations', 0, dict(image_id=9), r'annotations\[0\]: image_id 9 is not among'),
        ('annotations', 0, dict(track_id=[1]), r'annotations\[0\]: track_id must be a whole'),
        ('annotations', 0, dict(attributes=[1]), r'annotations\[0\]: attributes must be an obj'),
        ('annotations', 0, dict(bbox=[1, 2]), r'annotations\[0\]: bbox must be a list of 4'),
    ],
)
def test_what_is_wrong_is_named(read, write, part, index, change, message):
    content = coco(
        ['a/0.jpg', 'a/1.jpg'], annotation(1, 1, track_id=1), video_id=[5, 5], frame_id=[0, 1]
    )
    content[part][index].update(change)
    with pytest.raises(AnnotationError, match=message) as error:
        read('coco', write('set.json', content))
    assert 'set.json' in str(error.value)


def test_images_that_are_no_frames(read, write):
    path = write('set.json', coco(['cat.jpg', 'dog.jpg']))
    with pytest.raises(AnnotationError, match=r"that 'cat.jpg' is: give all images video_id and"):
        read('coco', path)
    assert frames(read('coco', path, identity='none')) == {
        'cat': ('cat.jpg',),
        'dog': ('dog.jpg',),
    }


def test_two_videos_of_one_name(read, write):
    content = coco(['a/0.jpg', 'b/0.jpg'], video_id=[1, 2])
    content['videos'] = [dict(id=1, name='x'), dict(id=2, name='x')]
    with pytest.raises(AnnotationError, match="two videos are called 'x'"):
        read('coco', write('set.json', content))


def encoded(mask: np.ndarray) -> dict:
    found = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=list(mask.shape), counts=found['counts'].decode())


def test_masks_of_parts_are_joined(read, write):
    polygon = [[1, 2, 6, 2, 6, 8, 1, 8]]
    other = np.zeros((20, 30), bool)
    other[10:12, 20:25] = True
    content = coco(
        ['a/0.jpg'],
        annotation(1, 1, track_id=1, segmentation=polygon),
        dict(annotation(2, 1, track_id=1, segmentation=encoded(other)), bbox=[20, 10, 5, 2]),
    )
    path = write('set.json', content)
    (track,) = read('coco', path, keep_masks=True).videos[0].tracks
    wanted = other.copy()
    wanted[2:8, 1:6] = True
    assert np.array_equal(mask_utils.decode(track.masks[0]), wanted)
    assert track.boxes == {0: (1, 2, 24, 10)}
    assert read('coco', path).videos[0].tracks[0].masks == {}
    for image in content['images']:
        image.pop('width')
    with pytest.raises(AnnotationError, match='size of the frames is not known; give it with --s'):
        read('coco', write('set.json', content), keep_masks=True)
    assert read('coco', write('b.json', content), keep_masks=True, size=(30, 20)).videos
    # a box for which there is no mask
    content['annotations'][0]['segmentation'] = []
    path = write('c.json', content)
    (track,) = read('coco', path, keep_masks=True, size=(30, 20)).videos[0].tracks
    assert np.array_equal(mask_utils.decode(track.masks[0]), other)
    assert track.boxes == {0: (1, 2, 24, 10)}
    content['annotations'][0].pop('segmentation')
    with pytest.raises(AnnotationError, match=r'annotations\[0\]: has no segmentation'):
        read('coco', write('set.json', content), keep_masks=True, size=(30, 20))


@pytest.fixture
def masks() -> dict:
    """Two videos with a track each, as boxes_to_masks.py writes them."""
    rng = np.random.default_rng(0)
    found = [encoded(rng.random((20, 30)) > 0.5) for _ in range(3)]
    names = [('walk', 'walk/{}.jpg', 3), ('run', 'run/{}.jpg', 2)]
    return dict(
        videos=[
            dict(id=key, name=name, file_names=[file.format(t) for t in range(n)], **SIZE)
            for key, (name, file, n) in enumerate(names, start=3)
        ],
        categories=[dict(id=4, name='cat'), dict(id=2, name='dog')],
        annotations=[
            dict(id=70, video_id=3, category_id=2, segmentations=[found[0], None, found[1]]),
            dict(id=71, video_id=4, category_id=4, segmentations=[None, found[2]]),
        ],
    )


@pytest.mark.parametrize('format_', ['coco', 'coco-vid'])
def test_our_own_export_comes_back(read, write, masks, format_):
    path = write('coco.json', to_coco(masks))
    assert_same(to_ytvis(read(format_, path, keep_masks=True), keep_masks=True), masks)


@pytest.mark.parametrize('lost', ['videos', 'video_id', 'frame_id', 'all'])
def test_our_own_export_comes_back_through_other_tools(read, write, masks, lost):
    content = to_coco(masks)
    if lost in ('videos', 'all'):
        content.pop('videos')
    for image in content['images']:
        for field in ('video_id', 'frame_id'):
            if lost in (field, 'all'):
                image.pop(field)
    boxes = read('coco', write('coco.json', content), keep_masks=True)
    expected = copy.deepcopy(masks)
    if lost in ('video_id', 'all'):  # in the order of names
        expected['videos'].reverse()
        expected['annotations'].reverse()
    assert_same(to_ytvis(boxes, keep_masks=True), expected)


def assert_same(content: dict, masks: dict) -> None:
    assert content['categories'] == [dict(id=1, name='cat'), dict(id=2, name='dog')]
    for key in ('name', 'file_names', 'width', 'height'):
        assert [v[key] for v in content['videos']] == [v[key] for v in masks['videos']]
    got, wanted = content['annotations'], masks['annotations']
    assert [a['segmentations'] for a in got] == [a['segmentations'] for a in wanted]
    assert [a['category_id'] for a in got] == [2 if a['category_id'] == 2 else 1 for a in wanted]
