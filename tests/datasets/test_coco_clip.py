from __future__ import annotations

from typing import Any

import pytest

from mmboxvis.datasets import AnnotationError, BoxVideo, ClipRandomCrop, CocoClips

PIPELINE = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ImageToClip', num_frames=3),
    dict(type=ClipRandomCrop, min_size=30, max_size=36),
    dict(type='ClipRandomFlip'),
    dict(type='ClipRotate'),
    dict(type='PackClipInputs'),
]


@pytest.fixture
def coco_json() -> dict[str, Any]:
    return dict(
        images=[dict(id=i, file_name=f'walk/{i}.png', width=60, height=40) for i in (0, 1, 2)],
        categories=[dict(id=1, name='person'), dict(id=18, name='dog')],
        annotations=[
            dict(id=5, image_id=0, category_id=18, iscrowd=0, bbox=[5, 5, 40, 30]),
            dict(id=6, image_id=0, category_id=1, iscrowd=1, bbox=[5, 5, 40, 30]),
            dict(id=8, image_id=2, category_id=1, iscrowd=0, bbox=[20, 10, 0, 20]),
            dict(id=9, image_id=2, category_id=1, iscrowd=0, bbox=[20, 10, 15, 20]),
        ],
    )


def test_clips(coco_json, tiny_images, write_json):
    with pytest.warns(UserWarning, match='1 boxes have no area'):
        dataset = CocoClips(write_json(coco_json), img_root=str(tiny_images), pipeline=PIPELINE)
    assert len(dataset) == 2  # an image without annotations is left out
    item = dataset[0]
    assert item['inputs'].shape[:2] == (3, 3)
    assert item['data_samples'].video_length == 3
    assert not (item['inputs'][0] == item['inputs'][2]).all()
    for frame in item['data_samples'].video_data_samples:
        assert frame.gt_instances.instances_ids.tolist() == [5]
        assert frame.gt_instances.labels.tolist() == [16]  # dog among COCO's 80


@pytest.mark.filterwarnings('ignore:.*no area')
def test_classes_and_map(coco_json, tiny_images, write_json):
    dataset = CocoClips(
        write_json(coco_json), img_root=str(tiny_images), classes=('dog',),
        unknown_categories='drop',
    )  # fmt: skip
    assert len(dataset) == 1


def test_masks(coco_json, tiny_images, write_json):
    for annotation in coco_json['annotations']:
        annotation['segmentation'] = [[10, 10, 30, 10, 30, 30, 10, 30]]
    coco_json['annotations'][1]['segmentation'] = dict(size=[40, 60], counts=[2400])
    dataset = CocoClips(
        write_json(coco_json), img_root=str(tiny_images), box_source='mask',
        pipeline=[*PIPELINE[:3], PIPELINE[-1]],
    )  # fmt: skip
    for frame in dataset[0]['data_samples'].video_data_samples:
        assert frame.gt_instances.bboxes.tolist() == [[10, 10, 30, 30]]


def test_bad_files(coco_json, tiny_images, write_json):
    arguments = dict(img_root=str(tiny_images))
    with pytest.raises(AnnotationError, match='COCO layout'):
        CocoClips(write_json(dict(videos=[])), **arguments)
    with pytest.raises(AnnotationError, match="expected a list 'videos'"):
        BoxVideo(write_json(coco_json), **arguments)
    coco_json['annotations'][0]['bbox'] = [1, 2, -1, 4]
    with pytest.raises(AnnotationError, match='annotation 5, frame 0, field bboxes'):
        CocoClips(write_json(coco_json), **arguments)
    coco_json['annotations'] = None
    with pytest.raises(AnnotationError, match='has no annotations'):
        CocoClips(write_json(coco_json), **arguments)
    del coco_json['images'][0]['file_name']
    with pytest.raises(AnnotationError, match="video 0: field 'file_names' is missing"):
        CocoClips(write_json(dict(coco_json, annotations=[])), **arguments)
