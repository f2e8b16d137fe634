"""Pictures of clips and of the pairs that supervise their masks."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from mmboxvis.models.losses import STPALoss
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.structures import AffinityPairs, ClipTargets
from mmboxvis.structures.clip_targets import boxes_to_masks
from mmboxvis.visualization import clip_sheet
from mmboxvis.visualization.affinity import PairPoints, lab_affinity

ROOT = Path(__file__).resolve().parents[2]
Clip = tuple[np.ndarray, ClipTargets, Tensor, AffinityPairs]


def make_clip(boxes: list[list[list[float]]], size: tuple[int, int] = (64, 96)) -> Clip:
    """A red object on blue that fills its boxes, (N, T, 4) in pixels."""
    height, width = size
    num_frames = len(boxes[0]) if boxes else 2
    pixels = torch.tensor(boxes, dtype=torch.float32).reshape(len(boxes), num_frames, 4)
    masks = boxes_to_masks(pixels, size)
    rgb = torch.zeros(num_frames, 3, height, width)
    rgb[:, 2] = 200
    for mask in masks:
        rgb = torch.where(mask[:, None] > 0, rgb.new_tensor([220, 30, 30]).view(3, 1, 1), rgb)
    targets = ClipTargets(
        labels=torch.arange(len(boxes)) % 2,
        boxes=pixels / pixels.new_tensor([width, height, width, height]),
        box_masks=masks,
        instance_ids=torch.arange(len(boxes)) + 5,
    )
    lab = rgb_to_lab(rgb)
    loss = STPALoss(use_patch_corr=False)
    pairs = loss.build_pairs(lab, None, targets.boxes, targets.box_masks)
    frames = rgb.flip(1).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return frames, targets, lab, pairs


def draw(clip: Clip, **arguments: object) -> np.ndarray:
    frames, targets, lab, pairs = clip
    return clip_sheet(frames, targets, lab, pairs, class_names=('cup', 'star'), **arguments)


def test_no_object_one_frame_and_absence(tmp_path: Path) -> None:
    heights = [
        draw(make_clip(boxes)).shape[0]
        for boxes in (
            [],
            [[[10, 10, 40, 40]]],
            [[[10, 10, 40, 40], [0, 0, 0, 0]]],
            [[[10, 10, 40, 40], [20, 10, 50, 40]], [[50, 20, 80, 60], [52, 20, 82, 60]]],
        )
    ]
    assert heights[0] < min(heights[1:3]) and max(heights[1:3]) < heights[3]
    path = tmp_path / 'new' / 'sheet.png'
    drawn = draw(make_clip([[[10, 10, 40, 40], [20, 10, 50, 40]]]), path=path, title='a title')
    assert np.array_equal(cv2.imread(str(path)), drawn)


def test_lab_affinity_is_dark_at_edges_only() -> None:
    _, _, lab, pairs = make_clip([[[20, 16, 60, 48], [30, 16, 70, 48]]])
    found = lab_affinity(lab, pairs)
    assert found.shape == (2, *pairs.shape[2:])
    assert found[0, 4, 4] == pytest.approx(1) and found[0, 16, 18] == pytest.approx(1)
    # a node at the object's right side: its neighbour to the right is blue, the one below red
    assert found[0, 16, 29] == pytest.approx(0.5, abs=0.01)
    assert found[0, -1, -1] == 0


def test_points_are_where_the_pairs_are() -> None:
    *_, pairs = make_clip([[[20, 16, 60, 48], [30, 20, 70, 52]]])
    points = PairPoints.of(pairs, (64, 96))
    assert len(points.frames) == pairs.num_pairs > 0
    counts = np.array([(points.offsets == offset).all(1).sum() for offset in pairs.offsets])
    assert counts.tolist() == pairs.counts()[:, 0].tolist()
    # from frame 0 to 1 the object moves by (10, 4), and so do its points
    ahead = points.select((points.offsets == (1, 0, 0)).all(1) & (points.frames[:, 0] == 0))
    moved = ahead.points[:, 1] - ahead.points[:, 0]
    assert len(moved) and (moved == (10, 4)).all() and (ahead.frames[:, 1] == 1).all()
    x, y = ahead.points[:, 0].T
    assert x.min() >= 20 and x.max() <= 60 and y.min() >= 16 and y.max() <= 48
    halved = PairPoints.of(pairs, (128, 192))
    assert np.allclose(halved.points, 2 * points.points)


def test_pairs_of_another_clip_are_refused() -> None:
    frames, targets, lab, _ = make_clip([[[20, 16, 60, 48], [30, 16, 70, 48]]])
    *_, other = make_clip([])
    with pytest.raises(ValueError, match=r'do not fit 1 instances in 2 frames'):
        draw((frames, targets, lab, other))


def test_most_temporal_instances_come_first() -> None:
    """One row a zoomed instance: a sheet with more of them is higher by that row."""
    clip = make_clip(
        [[[5, 5, 35, 35], [8, 5, 38, 35]], [[50, 10, 80, 40], [0, 0, 0, 0]],
         [[40, 44, 60, 60], [42, 44, 62, 60]]]
    )  # fmt: skip
    heights = [draw(clip, max_instances=number).shape[0] for number in (0, 2, 3, 4)]
    steps = np.diff(heights)
    assert (steps[:2] > 100).all() and steps[2] == 0


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        'browse_dataset', ROOT / 'tools/misc/browse_dataset.py'
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('option', ['released_boxes', 'box_centers'])
def test_tool_fills_boxes_as_training_does(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    masks: list[torch.Tensor] = []
    monkeypatch.setattr(
        tool, 'clip_sheet', lambda _, targets, *args, **kwargs: masks.append(targets.box_masks)
    )
    cfg = Config.fromfile(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path))
    cfg.train_dataloader.dataset.generate.update(num_train=1, num_val=1)
    for chosen in (False, True):
        cfg.model.update({'released_boxes': False, 'box_centers': False, option: chosen})
        np.random.seed(0)
        tool.ClipBrowser(cfg, None).sheet(0, 1, tmp_path / 'sheet.png')
    assert not torch.equal(*masks)


def test_tool(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        f'train_dataloader.dataset.data_root={tmp_path / "toy"}',
        'train_dataloader.dataset.generate.num_train=2',
        'train_dataloader.dataset.generate.num_val=1',
    )
    config = str(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
    common = [config, '--num', '1', '--instances', '1', '--cfg-options', *options]
    for out, seed in itertools.product(('one', 'again'), '0'):
        assert (
            tool.main([*common[:1], '--out', str(tmp_path / out), '--seed', seed, *common[1:]]) == 0
        )
    assert '1 picture(s)' in capsys.readouterr().out
    pictures = [(tmp_path / out / 'clip_000.png').read_bytes() for out in ('one', 'again')]
    assert pictures[0] == pictures[1] and len(pictures[0]) > 10_000

    cfg = tool.Config.fromfile(config)
    cfg.train_dataloader.dataset.update(
        data_root=str(tmp_path / 'toy'), generate=dict(num_train=2, num_val=1, seed=0)
    )
    model = tool.MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    browser = tool.ClipBrowser(cfg, str(tmp_path / 'weights.pth'))
    assert browser.how == 'colours and features'
    browser.sheet(0, 1, tmp_path / 'with_features.png')
    assert (tmp_path / 'with_features.png').is_file()
    with pytest.raises(SystemExit, match='not found'):
        tool.main([config, '--cfg-options', 'train_dataloader.dataset.ann_file=nothing.json',
                   *options])  # fmt: skip
