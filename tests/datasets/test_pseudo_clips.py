"""Pseudo clips whose frames share their work, against the plain way."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmboxvis.datasets import BoxVideo, CocoClips
from mmboxvis.datasets.transforms.sharing import map_frames, map_masks, share_masks
from mmboxvis.structures import ClipTargets
from tests.reference.pseudo_clips import plain_pipeline

ROOT = Path(__file__).resolve().parents[2]
RECIPES = runpy.run_path(str(ROOT / 'configs/_base_/datasets/pipelines.py'))
IMAGE_SIZES = ((420, 640), (640, 427), (200, 230))


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth coloured pictures with two or no objects, in COCO layout."""
    root, rng = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    entries, annotations = [], []
    for key, (height, width) in enumerate(IMAGE_SIZES):
        coarse = rng.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
        cv2.imwrite(str(root / f'{key}.jpg'), cv2.resize(coarse, (width, height)))
        entries.append(dict(id=key, file_name=f'{key}.jpg', height=height, width=width))
        for x, y, w, h in ((20, 30, width - 60, height - 50), (width // 2, 10, 90, 120)):
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(id=len(annotations), image_id=key, category_id=1, iscrowd=0,
                     bbox=[x, y, w, h], segmentation=[corners])
            )  # fmt: skip
    content = dict(images=entries, annotations=annotations, categories=[dict(id=1, name='person')])
    (root / 'instances.json').write_text(json.dumps(content))
    return root


def make(images: Path, pipeline: Any, **arguments: Any) -> CocoClips:
    return CocoClips(
        'instances.json', data_root=str(images), classes=('person',), pipeline=pipeline,
        **arguments,
    )  # fmt: skip


def item_of(dataset: CocoClips, index: int, seed: int) -> dict[str, Any]:
    np.random.seed(seed)
    return dataset[index]


@pytest.mark.parametrize('recipe', ['image_pipeline', 'paper_image_pipeline'])
def test_same_as_decoding_and_augmenting_every_frame(images: Path, recipe: str) -> None:
    options = dict(load_masks=True)
    fast = make(images, RECIPES[recipe], **options)
    slow = make(images, plain_pipeline(RECIPES[recipe]), **options)
    for index in range(len(IMAGE_SIZES)):
        for seed in range(3):
            one, other = (item_of(dataset, index, seed) for dataset in (fast, slow))
            assert one['inputs'].shape == other['inputs'].shape and len(one['inputs']) == 3
            apart = (one['inputs'].int() - other['inputs'].int()).abs()
            assert apart.max() <= 3 and apart.float().mean() < 0.5
            size = one['inputs'].shape[2:]
            clips = [ClipTargets.from_data_sample(i['data_samples'], size) for i in (one, other)]
            assert (clips[0].boxes == clips[1].boxes).all()
            assert (clips[0].masks == clips[1].masks).all()
            assert clips[0].instance_ids.tolist() == clips[1].instance_ids.tolist()


def test_the_papers_recipe(images: Path) -> None:
    """Every clip is cropped and turned, and its short edge is 360."""
    dataset = make(images, RECIPES['paper_image_pipeline'])
    for seed in range(4):
        clip = item_of(dataset, 0, seed)['inputs']
        assert min(clip.shape[2:]) == 360 and max(clip.shape[2:]) <= 800
        assert not (clip[0] == clip[1]).all() and not (clip[1] == clip[2]).all()


def test_frames_are_shared_until_set_apart() -> None:
    image, calls = np.zeros((4, 5, 3), np.uint8), []
    made = map_frames(lambda img: calls.append(1) or img + 1, [image, image, image.copy()])
    assert len(calls) == 2 and made[0] is made[1] and made[2] is not made[0]
    assert map_frames(np.negative, []) == []

    masks = np.random.default_rng(0).integers(0, 2, (2, 1, 4, 5), np.uint8)
    shared = map_masks(lambda part: part[..., ::-1] * 2, share_masks(masks, 3))
    assert shared.strides[1] == 0
    assert (shared == np.repeat(masks[..., ::-1] * 2, 3, 1)).all()
    assert share_masks(masks[:0], 3).shape == (0, 3, 4, 5)


# ------------------------------------------------------------------ reduced decoding


def video_set(folder: Path, suffix: str) -> str:
    coarse = np.random.default_rng(1).integers(0, 256, (9, 16, 3), np.uint8)
    frame = cv2.resize(coarse, (323, 181))
    for t in range(2):
        cv2.imwrite(str(folder / f'{t}{suffix}'), frame)
    mask = np.zeros((181, 323), np.uint8)
    mask[40:121, 60:201] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.r_[2, mask.T.ravel(), 2])))
    counts = [*map(int, runs)]
    video = dict(id=1, name='v', width=323, height=181, file_names=[f'{t}{suffix}' for t in (0, 1)])
    track = dict(
        id=1, video_id=1, category_id=1, bboxes=[[60, 40, 141, 81]] * 2,
        segmentations=[dict(size=[181, 323], counts=counts)] * 2,
    )  # fmt: skip
    path = folder / 'set.json'
    path.write_text(
        json.dumps(dict(videos=[video], categories=[dict(id=1, name='a')], annotations=[track]))
    )
    return str(path)


def _every(factor: int, low: int, high: int, side: int) -> np.ndarray:
    middles = [min(start + factor // 2, side - 1) for start in range(0, side, factor)]
    return np.array([low <= pixel < high for pixel in middles])


@pytest.mark.parametrize(
    ('suffix', 'edge', 'size'),
    [
        ('.jpg', None, (181, 323)),
        ('.jpg', 100, (181, 323)),
        ('.jpg', 90, (91, 162)),
        ('.jpg', 22, (23, 41)),
        ('.png', 22, (181, 323)),
    ],
)
def test_reduced_decoding(
    tmp_path: Path, suffix: str, edge: int | None, size: tuple[int, int]
) -> None:
    dataset = BoxVideo(
        video_set(tmp_path, suffix), img_root=str(tmp_path), load_masks=True,
        pipeline=[dict(type='LoadClipFrames', min_short_edge=edge),
                  dict(type='LoadClipAnnotations'), dict(type='PackClipInputs')],
    )  # fmt: skip
    item = dataset[0]
    assert tuple(item['inputs'].shape[2:]) == size
    assert item['data_samples'].ori_shape == (181, 323)
    factor = round(181 / size[0])
    whole = cv2.imread(str(tmp_path / f'0{suffix}'))
    padded = np.pad(whole, ((0, -181 % factor), (0, -323 % factor), (0, 0)), mode='edge')
    expected = cv2.resize(padded, size[::-1], interpolation=cv2.INTER_AREA)
    apart = np.abs(item['inputs'][0].permute(1, 2, 0).numpy().astype(int) - expected)
    assert apart.mean() < 2
    instances = item['data_samples'].video_data_samples[0].gt_instances
    assert (instances.bboxes * factor).tolist() == [[60, 40, 201, 121]]
    [mask] = instances.masks.masks
    assert np.array_equal(
        mask, _every(factor, 40, 121, 181)[:, None] & _every(factor, 60, 201, 323)
    )


def test_png_under_the_name_of_a_jpeg_is_reduced_like_one(tmp_path: Path) -> None:
    path = Path(video_set(tmp_path, '.png'))
    for frame in tmp_path.glob('*.png'):
        frame.rename(frame.with_suffix('.jpg'))
    path.write_text(path.read_text().replace('.png', '.jpg'))
    dataset = BoxVideo(
        str(path), img_root=str(tmp_path),
        pipeline=[dict(type='LoadClipFrames', min_short_edge=50),
                  dict(type='LoadClipAnnotations'), dict(type='PackClipInputs')],
    )  # fmt: skip
    item = dataset[0]
    assert tuple(item['inputs'].shape[2:]) == (91, 162)
    whole = np.pad(cv2.imread(str(tmp_path / '0.jpg')), ((0, 1), (0, 1), (0, 0)), mode='edge')
    expected = cv2.resize(whole, (162, 91), interpolation=cv2.INTER_AREA)
    assert np.array_equal(item['inputs'][0].permute(1, 2, 0).numpy(), expected)


def test_reduced_decoding_still_checks_the_size(tmp_path: Path) -> None:
    path = video_set(tmp_path, '.jpg')
    cv2.imwrite(str(tmp_path / '1.jpg'), np.zeros((200, 323, 3), np.uint8))
    dataset = BoxVideo(
        path, img_root=str(tmp_path),
        pipeline=[dict(type='LoadClipFrames', min_short_edge=50),
                  dict(type='LoadClipAnnotations'), dict(type='PackClipInputs')],
    )  # fmt: skip
    with pytest.raises(OSError, match='200x323, expected 181x323'):
        for _ in range(20):
            dataset[0]
    with pytest.raises(ValueError, match='min_short_edge'):
        dataset.pipeline.transforms[0].__class__(0)
