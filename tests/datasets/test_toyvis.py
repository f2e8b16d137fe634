from __future__ import annotations

import filecmp
import json
import os
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from pycocotools import mask as mask_utils

from mmboxvis.datasets import ToyVIS, generate_toyvis
from mmboxvis.datasets.toyvis_scene import Scene

ROOT = Path(__file__).resolve().parents[2]
SMALL = dict(num_train=6, num_val=2, size=(64, 96))


@pytest.fixture(scope='module')
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_toyvis(tmp_path_factory.mktemp('toy') / 'set', **SMALL)


def same_tree(one: Path, other: Path) -> bool:
    files = sorted(p.relative_to(one) for p in one.rglob('*') if p.is_file())
    if files != sorted(p.relative_to(other) for p in other.rglob('*') if p.is_file()):
        return False
    return filecmp.cmpfiles(one, other, files, shallow=False)[0] == files


def test_no_videos(tmp_path):
    out = generate_toyvis(tmp_path / 'none', num_train=0, num_val=1, size=(32, 32))
    assert json.loads((out / 'train' / 'boxes.json').read_text())['videos'] == []


def test_boxes_only(toy):
    for split, count in (('train', 6), ('val', 2)):
        content = json.loads((toy / split / 'boxes.json').read_text())
        assert len(content['videos']) == count
        assert [c['name'] for c in content['categories']] == ['disc', 'square', 'triangle', 'star']
        text = (toy / split / 'boxes.json').read_text()
        assert 'segmentation' not in text and 'areas' not in text and 'counts' not in text
        full = json.loads((toy / split / 'instances.json').read_text())
        assert len(full['annotations']) == len(content['annotations']) > 0
        for box, mask in zip(content['annotations'], full['annotations'], strict=True):
            assert box['bboxes'] == mask['bboxes'] and box['id'] == mask['id']


def test_boxes_are_tight_and_masks_apart(toy):
    content = json.loads((toy / 'train' / 'instances.json').read_text())
    for video in content['videos']:
        own = [a for a in content['annotations'] if a['video_id'] == video['id']]
        assert 8 <= video['length'] <= 24 and 1 <= len(own) <= 5
        for frame in range(video['length']):
            total = np.zeros((video['height'], video['width']), int)
            for annotation in own:
                rle, box = annotation['segmentations'][frame], annotation['bboxes'][frame]
                assert (rle is None) == (box is None)
                if rle is None:
                    assert annotation['areas'][frame] is None
                    continue
                assert isinstance(rle['counts'], str)
                mask = mask_utils.decode(rle)
                assert mask_utils.toBbox(rle).tolist() == box
                assert annotation['areas'][frame] == mask.sum() >= 12
                total += mask
            assert total.max() <= 1  # what is hidden belongs to the object in front


def test_frames_exist_and_show_the_objects(toy):
    content = json.loads((toy / 'val' / 'instances.json').read_text())
    for video in content['videos']:
        for name in video['file_names']:
            image = cv2.imread(str(toy / 'val' / 'JPEGImages' / name))
            assert image.shape == (64, 96, 3)
    annotation = content['annotations'][0]
    frame = next(i for i, box in enumerate(annotation['bboxes']) if box)
    name = content['videos'][0]['file_names'][frame]
    image = cv2.imread(str(toy / 'val' / 'JPEGImages' / name)).astype(float)
    mask = mask_utils.decode(annotation['segmentations'][frame]) > 0
    spread = image.max(2) - image.min(2)  # easy: saturated objects on greyish ground
    others = np.zeros_like(mask)
    for other in content['annotations']:
        if other['video_id'] == 1 and other['segmentations'][frame]:
            others |= mask_utils.decode(other['segmentations'][frame]) > 0
    assert spread[mask].mean() > spread[~others].mean() + 30


def test_objects_leave_hide_and_cover_all_classes(tmp_path):
    out = generate_toyvis(tmp_path / 'more', num_train=24, num_val=0, size=(48, 64))
    content = json.loads((out / 'train' / 'instances.json').read_text())
    assert {a['category_id'] for a in content['annotations']} == {1, 2, 3, 4}
    levels = {level for a in content['annotations'] for level in a['occlusion']}
    assert {'no_occlusion', 'slight_occlusion', 'severe_occlusion', None} == levels
    counts = np.bincount([a['video_id'] for a in content['annotations']])[1:]
    assert counts.max() >= 4 and counts.min() == 1


def test_seed_decides(toy, tmp_path):
    assert same_tree(toy, generate_toyvis(tmp_path / 'again', **SMALL))
    other = generate_toyvis(tmp_path / 'other', **SMALL, seed=1)
    assert not same_tree(toy, other)


def test_splits_differ(toy):
    first = [
        (toy / s / 'JPEGImages' / f'{s}_0000' / '00000.jpg').read_bytes() for s in ('train', 'val')
    ]
    assert first[0] != first[1]


def test_videos_do_not_depend_on_workers_or_number(toy, tmp_path):
    spread = generate_toyvis(tmp_path / 'spread', **SMALL, num_workers=2)
    assert same_tree(toy, spread)
    few = generate_toyvis(tmp_path / 'few', **dict(SMALL, num_train=2))
    name = Path('train/JPEGImages/train_0001/00003.jpg')
    assert (few / name).read_bytes() == (toy / name).read_bytes()


def test_skips_what_is_there(toy, monkeypatch):
    before = os.stat(toy / 'train' / 'boxes.json').st_mtime_ns
    generate_toyvis(toy, **SMALL)
    assert os.stat(toy / 'train' / 'boxes.json').st_mtime_ns == before


def test_other_settings_and_other_folders(tmp_path):
    small = dict(num_train=1, num_val=1, size=(32, 32))
    out = generate_toyvis(tmp_path / 'set', **small)
    with pytest.raises(FileExistsError, match='overwrite=True'):
        generate_toyvis(out, **small, seed=5)
    generate_toyvis(out, **small, seed=5, overwrite=True)
    assert json.loads((out / 'manifest.json').read_text())['seed'] == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ['set']
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'photo.jpg').write_bytes(b'')
    with pytest.raises(FileExistsError, match='is not ToyVIS'):
        generate_toyvis(tmp_path / 'mine', **small, overwrite=True)
    (tmp_path / 'empty').mkdir()
    generate_toyvis(tmp_path / 'empty', **small)


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *a: False)
    with pytest.raises(OSError, match='could not write'):
        generate_toyvis(tmp_path / 'set', num_train=1, num_val=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('bad', [dict(size=(8, 8)), dict(num_train=-1), dict(difficulty='odd')])
def test_settings_are_checked(bad, tmp_path):
    with pytest.raises(ValueError):
        generate_toyvis(tmp_path / 'set', **bad)


def test_hard_is_closer_to_its_background():
    def contrast(difficulty: str) -> float:
        gaps = []
        for seed in range(12):
            scene = Scene(np.random.default_rng(seed), size=(64, 96), difficulty=difficulty)
            frame = next(scene.frames())
            seen = frame.masks.any(0)
            lab = cv2.cvtColor(frame.image, cv2.COLOR_BGR2LAB).astype(float)[..., 1:]
            if seen.any():
                gaps.append(np.linalg.norm(lab[seen].mean(0) - lab[~seen].mean(0)))
        return float(np.mean(gaps))

    assert contrast('hard') < 0.8 * contrast('easy')


def test_dataset_trains_and_tests(tmp_path):
    settings = dict(num_train=2, num_val=1, size=(32, 48))
    pipeline = [
        dict(type='LoadClipFrames'),
        dict(type='LoadClipAnnotations'),
        dict(type='ClipRandomFlip'),
        dict(type='PackClipInputs'),
    ]
    train = ToyVIS(str(tmp_path / 'toy'), generate=settings, pipeline=pipeline)
    batch = pseudo_collate([train[0], train[1]])
    assert [clip.shape for clip in batch['inputs']] == [(3, 3, 32, 48)] * 2
    test = ToyVIS(
        str(tmp_path / 'toy'), split='val', ann_file='instances.json', test_mode=True,
        pipeline=[dict(type='Resize', scale=(1333, 16), keep_ratio=True)],
    )  # fmt: skip
    assert test[0]['inputs'][0].shape == (16, 24, 3)
    assert test.metainfo['category_ids'] == ((1,), (2,), (3,), (4,))
    with pytest.raises(ValueError, match='split must be one of'):
        ToyVIS(str(tmp_path / 'toy'), split='test')


def test_tool(tmp_path, monkeypatch, capsys):
    tool = str(ROOT / 'tools' / 'dataset_converters' / 'make_toyvis.py')
    command = [tool, str(tmp_path / 'toy'), '--num-train', '1', '--num-val', '1']
    monkeypatch.setattr(sys, 'argv', [*command, '--size', '32', '40', '--difficulty', 'hard'])
    runpy.run_path(tool, run_name='__main__')
    assert 'ToyVIS is in' in capsys.readouterr().out
    settings = json.loads((tmp_path / 'toy' / 'manifest.json').read_text())
    assert settings['size'] == [32, 40] and settings['difficulty'] == 'hard'
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(SystemExit, match=r'^make_toyvis\.py: error: .*--overwrite.*$'):
        runpy.run_path(tool, run_name='__main__')
    monkeypatch.setattr(sys, 'argv', [*command, '--seed', '-1', '--overwrite'])
    with pytest.raises(SystemExit, match='out of range'):
        runpy.run_path(tool, run_name='__main__')
