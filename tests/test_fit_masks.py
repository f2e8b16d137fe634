"""Masks fitted to the losses alone."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from mmboxvis._cli import UsageError
from mmboxvis.models.losses import ProjectionLoss, STPALoss
from mmboxvis.structures import ClipTargets
from tests.test_analysis_tools import load


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load('fit_masks')


def make_clip(tool: ModuleType, *, count: int = 1):
    """A diamond that touches all sides of its box, on a background of another colour."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing='ij')
    diamond = ((x - 31.5).abs() + (y - 31.5).abs()) <= 24
    lab = torch.zeros(3, 3, 64, 64)
    lab[:, 0] = torch.where(diamond, 70.0, 20.0)
    box = torch.tensor([8.0, 8, 56, 56]) / 64
    box_masks = torch.zeros(count, 3, 64, 64)
    box_masks[..., 8:56, 8:56] = 1
    ones = torch.ones(count, dtype=torch.int64)
    masks = diamond.float().expand(count, 3, -1, -1)
    targets = ClipTargets(ones, box.expand(count, 3, 4), box_masks, ones, masks)
    return tool.Clip(lab, None, targets, torch.full((3, 3, 64, 64), 90.0), ('disc', 'square'))


def test_no_instance(tool: ModuleType) -> None:
    losses = tool.Losses(ProjectionLoss(5.0), STPALoss(use_patch_corr=False))
    assert tool.fit(make_clip(tool, count=0), losses, 3).shape == (0, 3, 64, 64)


def test_first_logits(tool: ModuleType) -> None:
    """Positive in the middle half of the box, at their least outside of it and where it is not."""
    boxes = torch.tensor([[[0.25, 0.25, 0.75, 0.75], [0.0, 0, 0, 0]]])
    logits = tool.first_logits(boxes, (16, 16))
    assert logits.shape == (1, 2, 16, 16)
    assert (logits[0, 1] == -tool.START).all()
    assert logits[0, 0, 7:9, 7:9].min() > 0.6 * tool.START
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[4:12, 4:12] = False
    assert (logits[0, 0][outside] == -tool.START).all()
    assert int((logits[0, 0] > 0).sum()) == 12  # pixels less than 2 away from the middle


def test_ious_by_hand(tool: ModuleType) -> None:
    truth, masks = torch.zeros(2, 2, 4, 4), torch.ones(2, 2, 4, 4)
    truth[0, :, :2] = 1
    ious = tool.track_ious(masks, truth)
    assert ious[0] == 0.5
    assert ious[1].isnan(), 'an object that is nowhere to be seen counts'


def test_pairs_draw_the_mask_to_the_colours(tool: ModuleType) -> None:
    clip = make_clip(tool)
    projection = ProjectionLoss(5.0)
    alone = tool.fit(clip, tool.Losses(projection), 300)
    both = tool.fit(clip, tool.Losses(projection, STPALoss(use_patch_corr=False)), 300)
    ious = [float(tool.track_ious(x, clip.targets.masks)) for x in (alone, both)]
    assert ious[1] > 0.85 > ious[0] + 0.1


def test_rows_that_differ_in_pseudo_masks_only_are_left_out(tool: ModuleType) -> None:
    assert list(tool.rows_of('table3', 'toyvis', None)) == ['projection', '+ pairs']
    assert len(tool.rows_of('table4', 'toyvis', None)) == 5
    assert list(tool.rows_of('supervision', 'toyvis', ['BoxVIS'])) == ['BoxVIS']
    with pytest.raises(UsageError, match=r'no row \[.3 spatial.\]'):
        tool.rows_of('table4', 'toyvis', ['3 spatial'])


def test_differences_are_paired(tool: ModuleType) -> None:
    before, fast = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([False, True, True])
    table = tool.render({'one': before, 'two': before + torch.tensor([0.0, 0.1, 0.2])}, fast)
    columns = [list(column.cells) for column in table.columns]
    assert columns[1:] == [
        ['50.0', '60.0'],
        ['', '+10.0 ± 5.8'],
        ['70.0', '85.0'],
        ['', '+15.0 ± 5.0'],
    ]


def test_rows_can_be_compared_with_one(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    values = torch.tensor([0.1, 0.5])
    rows = {'one': values, 'two': values + 0.1, 'three': values + 0.3}
    table = tool.render(rows, torch.ones(2, dtype=torch.bool), 'two')
    assert list(table.columns[2].cells) == ['-10.0 ± 0.0', '', '+20.0 ± 0.0']
    with pytest.raises(
        SystemExit, match=r"--against 'two': choose one of \['projection', '. pairs'"
    ):
        tool.main(['table3', '--set', 'toyvis', '--against', 'two'])


def test_features_are_asked_for(tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r'compare features.*--features'):
        tool.main(['table4', '--set', 'toyvis'])


def test_set_without_masks_is_refused(tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match='mix_folds has no masks'):
        tool.main(['table5', '--set', 'mix_folds', '--features', 'none.pth'])


def test_table_and_sheet(
    tool: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips = [make_clip(tool, count=2), make_clip(tool, count=0)]
    monkeypatch.setattr(tool, 'load_clips', lambda *_: iter(clips))
    path = tmp_path / 'sheet.png'
    options = ['--set', 'toyvis', '--rows', 'projection', '+ pairs', '--steps', '20']
    assert tool.main(['table3', *options, '--num', '2', '--sheet', str(path)]) == 0
    printed = capsys.readouterr().out
    assert '2 objects, 0 of them fast' in printed
    assert Image.open(path).width > 200
    monkeypatch.setattr(tool, 'load_clips', lambda *_: iter(clips[1:]))
    with pytest.raises(SystemExit, match='no object is seen'):
        tool.main(['table3', *options, '--num', '1'])


def test_a_sheet_that_cannot_be_written_is_told_before_the_work(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tool, 'load_clips', lambda *_: pytest.fail('work was done'))
    with pytest.raises(SystemExit, match=r'fit_masks\.py: error: .* cannot be written'):
        tool.main(['table3', '--set', 'toyvis', '--sheet', str(tmp_path)])


def test_clips_are_those_of_the_set(tool: ModuleType) -> None:
    """Where a set chooses videos, in training and with masks."""
    cfg = tool.truth_config('toyvis-hard-fast')
    dataset = cfg.train_dataloader.dataset
    assert len(dataset.videos) == 40 and dataset.ann_file == 'instances.json'
    assert 'videos' not in tool.truth_config('toyvis-hard').train_dataloader.dataset
    one_class = tool.truth_config('davis_folds')
    assert one_class.model.network.track_head.num_classes == 1
    assert len(one_class.train_dataloader.dataset.videos) == 6
