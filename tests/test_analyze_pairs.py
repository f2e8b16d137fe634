"""Judging pairs by true masks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from mmboxvis.models.losses import STPALoss
from mmboxvis.structures import ClipTargets
from tests.test_analysis_tools import load

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load('analyze_pairs')


def make_clip(tool: ModuleType, *, edge: int, colors: tuple[float, float] = (20, 60)):
    """A box of the whole frame, its object left of column 16, the colours changing at ``edge``."""
    lab = torch.zeros(3, 3, 32, 32)
    lab[:, 0, :, :edge], lab[:, 0, :, edge:] = colors
    masks = torch.zeros(1, 3, 32, 32)
    masks[..., :16] = 1
    boxes = torch.tensor([[[0.0, 0, 1, 1]] * 3])
    one = torch.ones(1, dtype=torch.int64)
    targets = ClipTargets(one, boxes, torch.ones_like(masks), one, masks)
    return tool.Clip(lab, None, targets)


def test_no_instance_counts_nothing(tool: ModuleType) -> None:
    clip = make_clip(tool, edge=16)
    empty = ClipTargets(*(x[:0] for x in vars(clip.targets).values()))
    counter = tool.Counter([4], [0.3], use_features=False)
    counter.add(tool.Clip(clip.lab, None, empty))
    assert all(row[kind] == 0 for row in counter.rows() for kind in tool.KINDS)


def test_colours_that_end_with_the_object_are_all_right(tool: ModuleType) -> None:
    counter = tool.Counter([4, 2], [0.3], use_features=False)
    counter.add(make_clip(tool, edge=16))
    for row in counter.rows():
        assert (row['object'], row['outside'], row['across']) == (1, 1, 0)
        assert row['right'] == 1


def test_colours_that_do_not_tell_keep_every_pair(tool: ModuleType) -> None:
    clip = make_clip(tool, edge=16, colors=(50, 50))
    counter = tool.Counter([4], [0.3], use_features=False)
    counter.add(clip)
    spatial, temporal = counter.rows()
    assert spatial['across'] == temporal['across'] == 1
    # 16 x 16 nodes, steps of 2: to the right 14 x 16 pairs, 2 columns of which cross; below
    # 16 x 14 and none
    assert spatial['right'] == pytest.approx(1 - 2 * 16 / (14 * 16 * 2))


def test_counts_are_those_of_the_loss(tool: ModuleType) -> None:
    clip = make_clip(tool, edge=10)
    pairs = STPALoss(use_patch_corr=False).build_pairs(
        clip.lab, None, clip.targets.boxes, clip.targets.box_masks
    )
    counts = tool.count_kinds(pairs, clip.targets.masks)
    assert torch.equal(counts.sum(1), pairs.counts().sum(1))
    assert counts[:, 2].sum() > 0


@pytest.mark.parametrize('option', ['released_boxes', 'box_centers'])
def test_boxes_are_filled_as_in_training(tool: ModuleType, tmp_path: Path, option: str) -> None:
    cfg = Config.fromfile(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path))
    cfg.train_dataloader.dataset.generate.update(num_train=1, num_val=1)
    masks = []
    for chosen in (False, True):
        cfg.model.update({'released_boxes': False, 'box_centers': False, option: chosen})
        [clip] = tool.load_clips(cfg, None, 1, 0)
        masks.append(clip.targets.box_masks)
    assert not torch.equal(*masks)


def test_config_without_masks_is_refused(tool: ModuleType) -> None:
    clip = make_clip(tool, edge=16)
    bare = ClipTargets(*list(vars(clip.targets).values())[:4])
    with pytest.raises(ValueError, match='pixel-supervised twin'):
        tool.Counter([4], [0.3], use_features=False).add(tool.Clip(clip.lab, None, bare))


def test_speeds(tool: ModuleType) -> None:
    """In sizes of the object, in pixels, over the steps that have it at both ends."""
    boxes = torch.tensor(
        [
            [[0, 0, 0.25, 0.25], [0.25, 0, 0.5, 0.25], [0.25, 0, 0.5, 0.25]],  # one size, then none
            [[0, 0, 0.25, 0.25], [0, 0, 0, 0], [0.5, 0.5, 0.75, 0.75]],  # never twice in a row
            [[0, 0, 0.5, 0.25], [0, 0.25, 0.5, 0.5], [0, 0, 0, 0]],
        ]
    )
    # twice as wide as high: the first is 32x16, the last 64x16 and moves by 16
    found = tool.speeds(boxes, (64, 128))
    torch.testing.assert_close(found, torch.tensor([0.5 * 32 / 512**0.5, 0.0, 0.5]))
    assert tool.speeds(boxes[:0], (64, 128)).shape == (0,)


def test_shift_finds_the_pairs_of_a_moving_object(tool: ModuleType) -> None:
    """An object that moves by its size has no pairs with itself where its box was."""
    lab = torch.zeros(3, 3, 64, 64)
    masks = torch.zeros(1, 3, 64, 64)
    boxes = torch.zeros(1, 3, 4)
    for t in range(3):
        masks[0, t, 24:40, 16 * t : 16 * t + 16] = 1
        boxes[0, t] = torch.tensor([16.0 * t, 24, 16 * t + 16, 40]) / 64
    lab[:, 0] = 20 + 50 * masks[0]
    one = torch.ones(1, dtype=torch.int64)
    clip = tool.Clip(lab, None, ClipTargets(one, boxes, masks.clone(), one, masks))
    counter = tool.Counter([2], [0.3], use_features=False, shifts=(True, False))
    counter.add(clip)
    rows = {(row['pairs'], row['shift']): row for row in counter.rows()}
    assert set(rows) == {('spatial', True), ('temporal', True), ('temporal', False)}
    assert rows['temporal', True]['number'] > 100
    # the node at the edge of the one box has a neighbour in the other
    assert rows['temporal', False]['number'] < 20
    # boxes without their surroundings: every pair is of the object
    assert rows['temporal', True]['right'] == 1


def test_slow_objects_can_be_left_out(tool: ModuleType) -> None:
    counter = tool.Counter([4], [0.3], use_features=False, min_speed=0.25)
    counter.add(make_clip(tool, edge=16))
    assert counter.num_instances == 0
    assert all(row['number'] == 0 for row in counter.rows())


def test_table_fits_80_columns(tool: ModuleType) -> None:
    shares = dict(object=1.0, outside=0.241, across=0.001, right=1.0, number=12345.0)
    settings = [tool.Setting(4, 0.02, True), tool.Setting(4, 0.02, False)]
    rows = [dict(each._asdict(), pairs='temporal', **shares) for each in settings]
    with (console := Console(width=80)).capture() as capture:
        console.print(tool.render(rows))
    printed = capture.get()
    assert '…' not in printed and 'dilation' in printed
    [row, other] = [line for line in printed.splitlines() if '12345' in line]
    for value in ('0.02', 'temporal', '100.0', '24.1', '0.1', '100.00'):
        assert value in row
    assert 'no shift' in other
