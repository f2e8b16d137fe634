from __future__ import annotations

import pickle
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, pseudo_collate
from pycocotools import mask as mask_utils
from torch.utils.data import DataLoader

from mmboxvis.datasets import (
    OVIS,
    AnnotationError,
    BoxVideo,
    FrameError,
    VideoFrames,
    YouTubeVIS,
)
from mmboxvis.structures import ClipTargets

TRAIN_PIPELINE = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ClipRandomFlip'),
    dict(type='PackClipInputs'),
]


@pytest.fixture
def make(tiny_json, tiny_images, write_json):
    def build(**arguments: Any) -> BoxVideo:
        arguments = dict(dict(img_root=str(tiny_images), pipeline=TRAIN_PIPELINE), **arguments)
        return BoxVideo(write_json(tiny_json), **arguments)

    return build


def add_masks(content: dict[str, Any]) -> None:
    """The left half of each box."""
    for annotation in content['annotations']:
        masks: list[Any] = []
        for box in annotation['bboxes']:
            if box is None:
                masks.append(None)
                continue
            mask = np.zeros((40, 60), np.uint8, order='F')
            mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2] // 2] = 1
            rle = mask_utils.encode(mask)
            masks.append(dict(size=rle['size'], counts=rle['counts'].decode()))
        annotation['segmentations'] = masks


def test_videos_without_annotations_are_left_out(tiny_json, make):
    del tiny_json['annotations'][2]
    assert [make().get_data_info(i)['id'] for i in range(len(make()))] == [1]
    kept = make(filter_empty=False)
    assert len(kept) == 2
    frames = kept[1]['data_samples'].video_data_samples
    assert all(len(frame.gt_instances) == 0 for frame in frames)
    tiny_json['annotations'] = []
    with pytest.raises(AnnotationError, match='no video is left'):
        make()


def test_crowds_are_dropped(tiny_json, make):
    tiny_json['annotations'][1]['iscrowd'] = 1
    assert make().get_data_info(0)['instances'].ids.tolist() == [7]


def test_train_item(make):
    dataset = make(clip=dict(num_frames=4, frame_range=2))
    item = dataset[0]
    assert item['inputs'].shape == (4, 3, 40, 60) and item['inputs'].dtype == torch.uint8
    sample = item['data_samples']
    assert sample.metainfo.items() >= dict(
        video_id=1, video_name='walk', video_length=5, ori_shape=(40, 60), img_shape=(40, 60)
    ).items()  # fmt: skip
    assert len(sample.frame_ids) == 4
    for frame, frame_id in zip(sample.video_data_samples, sample.frame_ids):
        assert frame.frame_id == frame_id
        instances = frame.gt_instances
        assert set(instances.keys()) == {'bboxes', 'labels', 'instances_ids'}
        assert instances.instances_ids.tolist() == ([7, 0] if 1 <= frame_id <= 3 else [0])
        assert instances.bboxes.dtype == torch.float32
        assert instances.labels.dtype == instances.instances_ids.dtype == torch.int64
    targets = ClipTargets.from_data_sample(sample, (64, 64))
    assert targets.masks is None and len(targets) == len(set(targets.instance_ids.tolist()))


def test_one_frame_video(make):
    item = make()[1]
    assert item['data_samples'].frame_ids == [0, 0, 0]
    assert (item['inputs'][0] == item['inputs'][2]).all()


def test_boxes_follow_the_frames(tiny_json, make):
    """Without flip, the box of frame k is that of the file."""
    pipeline = [t for t in TRAIN_PIPELINE if t['type'] != 'ClipRandomFlip']
    sample = make(pipeline=pipeline)[0]['data_samples']
    for frame in sample.video_data_samples:
        x, y, w, h = tiny_json['annotations'][1]['bboxes'][frame.frame_id]
        assert frame.gt_instances.bboxes[-1].tolist() == [x, y, x + w, y + h]


def test_boxes_from_masks(tiny_json, make):
    add_masks(tiny_json)
    pipeline = [t for t in TRAIN_PIPELINE if t['type'] != 'ClipRandomFlip']
    for annotation in tiny_json['annotations']:
        del annotation['bboxes']
    for frame in make(pipeline=pipeline, box_source='mask')[0]['data_samples'].video_data_samples:
        assert 'masks' not in frame.gt_instances
        x = 10 + frame.frame_id
        assert frame.gt_instances.bboxes[-1].tolist() == [x, 5, x + 10, 35]


def test_load_masks(tiny_json, make):
    add_masks(tiny_json)
    for frame in make(load_masks=True)[0]['data_samples'].video_data_samples:
        instances = frame.gt_instances
        assert instances.masks.masks.shape == (len(instances), 40, 60)
        # boxes stay those of the file: the masks are their halves
        widths = instances.bboxes[:, 2] - instances.bboxes[:, 0]
        assert (widths == 20).all()
        assert (instances.masks.masks.sum((1, 2)) == 10 * 30).all()


def test_polygons_and_uncompressed_run_lengths(tiny_json, make):
    add_masks(tiny_json)
    square = [[10, 10, 20, 10, 20, 20, 10, 20]]
    plain = dict(size=[40, 60], counts=[0, 400, 2000])
    tiny_json['annotations'][1]['segmentations'] = [square] * 4 + [plain]
    boxes = {
        tuple(frame.gt_instances.bboxes[-1].tolist())
        for _ in range(8)
        for frame in make(box_source='mask')[0]['data_samples'].video_data_samples
    }
    flipped = {(10, 10, 20, 20), (40, 10, 50, 20), (0, 0, 10, 40), (50, 0, 60, 40)}
    assert boxes <= flipped and len(boxes) >= 2


def test_broken_mask_is_named(tiny_json, make):
    add_masks(tiny_json)
    for broken in ([[1, 2]], [], [[1, 2, 3, 4]], dict(size=[40, 60], counts=[5, 6]), 3, {}):
        tiny_json['annotations'][1]['segmentations'] = [broken] * 5
        with pytest.raises(AnnotationError, match=r'annotation 0, frame \d, field segm'):
            make(load_masks=True)[0]


def test_classes_by_name(tiny_json, make):
    assert make().metainfo['classes'] == ('dog', 'person')
    dataset = make(classes=('Person', 'cat', 'DOG'))
    assert dataset.get_data_info(0)['instances'].labels.tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"\['dog'\] are not among the classes.*'drop'"):
        make(classes=('person', 'do_g'))
    dropped = make(classes=('person',), unknown_categories='drop')
    assert [dropped.get_data_info(i)['id'] for i in range(len(dropped))] == [1]
    with pytest.raises(ValueError, match='none of its categories'):
        make(classes=('camel',), unknown_categories='drop')
    mapped = make(classes=('animal', 'person'), category_map=dict(dog='animal'))
    assert mapped.get_data_info(0)['instances'].labels.tolist() == [1, 0]
    renamed = make(category_map=dict(dog='animal', person=None))
    assert renamed.metainfo['classes'] == ('animal',)
    with pytest.raises(ValueError, match="category_map leads to \\['beast'\\]"):
        make(classes=('animal', 'person'), category_map=dict(dog='beast'))


def test_categories_without_annotations_need_no_class(tiny_json, make):
    tiny_json['categories'].append(dict(id=77, name='tree'))
    assert make().metainfo['classes'] == ('dog', 'person', 'tree')
    for test_mode in (False, True):
        dataset = make(classes=('person', 'dog'), test_mode=test_mode)
        assert dataset.metainfo['classes'] == ('person', 'dog')
    with pytest.raises(ValueError, match=r"categories \['dog'\] are not among the classes"):
        make(classes=('person', 'cat'))
    # nothing tells which categories a file without annotations is about
    tiny_json['annotations'] = []
    with pytest.raises(ValueError, match=r"categories \['tree'\] are not among the classes"):
        make(classes=('person', 'dog'), test_mode=True)


def test_one_name_for_all_categories(make):
    merged = make(classes=('object',), category_map='object')
    assert merged.get_data_info(0)['instances'].labels.tolist() == [0, 0]
    assert make(category_map='thing').metainfo['classes'] == ('thing',)
    tested = make(classes=('object',), category_map='object', test_mode=True, pipeline=[])
    assert tested.metainfo['category_ids'] == ((5, 1),)
    with pytest.raises(ValueError, match="category_map leads to \\['thing'\\]"):
        make(classes=('object',), category_map='thing')


@pytest.mark.parametrize('test_mode', [False, True])
def test_only_the_videos_that_are_named(make, test_mode):
    pipeline = dict(pipeline=[]) if test_mode else {}
    for names, ids in ((['run'], [2]), (['run', 'walk'], [1, 2]), (None, [1, 2])):
        chosen = make(videos=names, test_mode=test_mode, **pipeline)
        assert [chosen.get_data_info(i)['id'] for i in range(len(chosen))] == ids
    with pytest.raises(AnnotationError, match=r"no video is called \['fly'\].*\['run', 'walk'\]"):
        make(videos=['run', 'fly'], test_mode=test_mode, **pipeline)
    with pytest.raises(AnnotationError, match='no video is left'):
        make(videos=[], test_mode=test_mode, **pipeline)


def test_category_ids_lead_back(tiny_json, make):
    tiny_json['categories'].append(dict(id=9, name='wolf'))
    dataset = make(
        classes=('cat', 'dog', 'person'), category_map=dict(wolf='dog'), test_mode=True, pipeline=[]
    )
    assert dataset.metainfo['category_ids'] == ((), (5, 9), (1,))
    assert set(dataset.metainfo['category_names']) == {1, 5, 9}  # what is dropped has none


def test_missing_first_frame(tiny_json, make):
    tiny_json['videos'][1]['file_names'] = ['run/gone.png']
    with pytest.raises(FileNotFoundError, match=r'video 2 \(run\), frame 0: .*gone.png not found'):
        make()


def test_unreadable_frames(tiny_json, tiny_images, make, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(
        'mmboxvis.datasets.box_video.print_log', lambda text, **_: logged.append(text)
    )
    images = tmp_path / 'copy'
    shutil.copytree(tiny_images, images)
    for frame in range(1, 5):
        (images / 'walk' / f'{frame}.png').write_bytes(b'no image')
    arguments = dict(img_root=str(images), clip=dict(num_frames=8))
    with pytest.raises(FrameError, match=r"video 'walk', frame [1-4]: .*is not an image"):
        make(**arguments)[0]
    dataset = make(**arguments, on_error='skip')
    assert dataset[0]['data_samples'].video_name == 'run'
    assert dataset.num_skipped == len(logged) > 0
    assert all('walk' in text and 'another clip is drawn' in text for text in logged)
    assert f'clip {dataset.num_skipped} skipped' in logged[-1]
    for frame in range(1, 5):
        (images / 'walk' / f'{frame}.png').unlink()
    with pytest.raises(FrameError, match=r"video 'walk', frame [1-4]: .*not found"):
        make(**arguments)[0]
    for name in ('walk', 'run'):
        for path in (images / name).iterdir():
            path.write_bytes(b'')
    said = r'6 clips in a row cannot be used; the last: .* (is empty|not found)'
    with pytest.raises(FrameError, match=said):
        make(**arguments, on_error='skip', max_refetch=5)[0]


def test_names_that_lead_out_of_the_images(tiny_json, tiny_images, make, tmp_path):
    images = tmp_path / 'copy'
    shutil.copytree(tiny_images, images)
    (images / 'away').symlink_to(tiny_images / 'walk')
    (tmp_path / 'link').symlink_to(images)
    assert len(make(img_root=str(tmp_path / 'link'))) == 2
    for name in ('../x.png', '/etc/x.png', 'a/../../x.png', 'a\0.png', 'a\\b.png', 'C:/x.png'):
        tiny_json['videos'][0]['file_names'][0] = name
        with pytest.raises(AnnotationError, match=r"video 1: 'file_names'.0.: .*( is | leads)"):
            make()
    tiny_json['videos'][0]['file_names'][0] = 'away/0.png'
    with pytest.raises(AnnotationError, match=r'frame 0: .*away/0.png goes through a link'):
        make(img_root=str(images))
    assert len(make(img_root=str(images), linked=['away'])) == 2
    with pytest.raises(ValueError, match='linked'):
        make(linked='away')


def test_size_that_differs_from_the_file(tiny_json, make):
    tiny_json['videos'][0].update(width=40, height=60)
    with pytest.raises(FrameError, match=r"'walk', frame \d: .* is 40x60, expected 60x40"):
        make()[0]
    tested = make(test_mode=True, pipeline=[])[0]['inputs']
    with pytest.raises(FrameError, match="'walk', frame 2: is 40x60"):
        tested[2]


def test_test_item(make):
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(1333, 20), keep_ratio=True),
    ]
    dataset = make(test_mode=True, pipeline=pipeline)
    item = dataset[0]
    assert isinstance(item['inputs'], VideoFrames)
    assert item['data_samples'].metainfo == dict(
        video_id=1, video_name='walk', video_length=5, ori_shape=(40, 60),
        file_names=[f'walk/{k}.png' for k in range(5)],
    )  # fmt: skip
    assert item['inputs'][4].shape == (20, 30, 3)
    batch = pseudo_collate([item])
    assert batch['inputs'][0] is item['inputs']


def test_workers_and_collate(make):
    loader = DataLoader(make(), batch_size=2, num_workers=1, collate_fn=pseudo_collate)
    batch = next(iter(loader))
    assert [clip.shape for clip in batch['inputs']] == [(3, 3, 40, 60)] * 2
    assert [sample.video_id for sample in batch['data_samples']] == [1, 2]


def test_records_are_shared_and_picklable(make):
    dataset = make()
    assert isinstance(dataset.data_bytes, np.ndarray) and len(dataset.data_list) == 0
    assert len(pickle.loads(pickle.dumps(dataset))) == 2
    assert len(make(indices=1)) == 1


def test_lazy(tiny_json, make):
    lazy = make(lazy_init=True)
    assert not lazy._fully_initialized
    lazy.full_init()
    assert len(lazy) == 2


def test_concat_of_equal_classes(make):
    both = ConcatDataset([make(classes=('person', 'dog')), make(classes=('person', 'dog'))])
    assert len(both) == 4 and both.metainfo['classes'] == ('person', 'dog')


def test_orientation(tiny_json, make):
    assert make().landscape().tolist() == [True, True]


@pytest.mark.parametrize(
    'arguments',
    [
        dict(box_source='polygon'),
        dict(on_error='ignore'),
        dict(unknown_categories='guess'),
        dict(empty_boxes='fill'),
        dict(clip=dict(num_frames=0)),
    ],
)
def test_arguments_are_checked(make, arguments):
    with pytest.raises(ValueError):
        make(**arguments)
    with pytest.raises(TypeError):
        make(clip=dict(stride=3))


def test_known_sets(tiny_json, tiny_images, write_json):
    path = write_json(tiny_json)
    youtube = YouTubeVIS(path, img_root=str(tiny_images), version='2021')
    assert youtube.metainfo['classes'][youtube.get_data_info(0)['instances'].labels[0]] == 'person'
    older = YouTubeVIS(path, img_root=str(tiny_images), version='2019')
    assert older.get_data_info(0)['instances'].labels.tolist() == [0, 7]
    assert youtube.metainfo['classes'] != older.metainfo['classes']
    ovis = OVIS(path, img_root=str(tiny_images))
    assert ovis.get_data_info(0)['instances'].labels.tolist() == [0, 3]
    own = OVIS(path, img_root=str(tiny_images), classes=('dog', 'person'))
    assert own.get_data_info(0)['instances'].labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match='version must be one of'):
        YouTubeVIS(path, img_root=str(tiny_images), version='2020')
