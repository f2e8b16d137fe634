"""Judging pseudo masks by true masks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from mmboxvis.structures import ClipTargets
from tests.models.tiny import SIZE, TWO_OBJECTS, Instances, make_boxvis, make_clip, make_sample
from tests.test_analysis_tools import ROOT, load


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load('analyze_pseudo_masks')


def make_dataset(*clips: Instances, masks: bool = True) -> list[dict]:
    """Clips whose true masks are the filled boxes."""
    return [
        dict(
            inputs=make_clip(seed=seed),
            data_samples=make_sample(instances, mask_size=SIZE if masks else None),
        )
        for seed, instances in enumerate(clips)
    ]


def test_no_instance(tool: ModuleType) -> None:
    nothing = torch.zeros(0, 3, 8, 8)
    assert len(tool.Figures.of(nothing, torch.zeros(0), nothing).ious) == 0
    [clip] = tool.compare(make_boxvis(), make_dataset({}), [0], [5.0])
    assert {len(row.ious) for row in clip.figures().values()} == {0}
    assert clip.pictures('abcd')[tool.TRUE].shape[2] == 3


def test_figures_by_hand(tool: ModuleType) -> None:
    truth, masks = torch.zeros(3, 2, 4, 4), torch.zeros(3, 2, 4, 4)
    truth[0, :, :2] = 1
    masks[0, 0, :2] = 0.6  # one frame of two
    truth[1, 0, 0, :2] = 1
    masks[1, 0, 0, 1:4] = 1  # one pixel shared of four
    masks[2] = 1  # an instance that is nowhere to be seen does not count
    figures = tool.Figures.of(masks, torch.tensor([0.9, 0.4, 0.1]), truth)
    assert figures.ious.tolist() == [0.5, 0.25]
    assert figures.areas.tolist() == [0.5, 1.5]
    torch.testing.assert_close(figures.scores, torch.tensor([0.9, 0.4]))


def test_rows_of_a_clip(tool: ModuleType) -> None:
    """Boxes are the truth here; all rows judge the same instances by the same scores."""
    torch.manual_seed(0)
    model = make_boxvis()
    clips = list(tool.compare(model, make_dataset(TWO_OBJECTS, TWO_OBJECTS), [1, 0], [2.0, 5.0]))
    assert len(clips) == 2
    for clip in clips:
        rows = clip.figures()
        refined = ['theta 2', 'colour models, theta 2', 'theta 5', 'colour models, theta 5']
        assert list(rows) == [tool.BOX, tool.TAKEN, tool.COLORS, *refined]
        assert rows[tool.BOX].ious.tolist() == [1, 1]
        for name in (tool.COLORS, *refined):
            assert torch.equal(rows[name].scores, rows[tool.TAKEN].scores)
            assert not torch.equal(rows[name].ious, rows[tool.TAKEN].ious)
        assert (rows[tool.TAKEN].ious < 1).all()
        drawn = clip.pictures('abcd')
        assert list(drawn) == [*rows, tool.TRUE]
        assert np.array_equal(drawn[tool.BOX], drawn[tool.TRUE])
        assert not np.array_equal(drawn[tool.BOX], drawn[tool.TAKEN])


@pytest.mark.parametrize('option', ['released_boxes', 'box_centers'])
def test_boxes_are_filled_as_in_training(tool: ModuleType, option: str) -> None:
    torch.manual_seed(0)
    model = make_boxvis(**{option: True})
    instances: Instances = {4: (0, [(8.25, 8.75, 59.25, 50.25)] * 3)}
    [clip] = tool.compare(model, make_dataset(instances), [0], [])
    targets = ClipTargets.from_data_sample(make_sample(instances), SIZE, **{option: True})
    assert torch.equal(clip.masks[tool.BOX], targets.box_masks)


def test_clips_without_masks(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match='pixel-supervised twin'):
        next(tool.compare(make_boxvis(), make_dataset(TWO_OBJECTS, masks=False), [0], []))


def test_table_and_plot(tool: ModuleType, tmp_path: Path) -> None:
    figures = tool.Figures(
        torch.tensor([0.2, 0.6, 0.95]), torch.tensor([2.0, 1.1, 1.0]), torch.tensor([0.3, 0.5, 0.9])
    )
    table = tool.render({tool.BOX: figures, tool.TAKEN: figures})
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == ['3', '3']
    assert cells[2] == ['0.583', '0.583']
    assert [column[0] for column in cells[3:6]] == ['67', '33', '33']
    assert cells[6] == ['1.10', '1.10']
    assert cells[7] == ['', '1.00']
    rows = {tool.BOX: figures, f'{tool.COLORS}, theta 2.5': figures}
    with (console := Console(width=80)).capture() as capture:
        console.print(tool.render(rows))
    printed = capture.get()
    assert '…' not in printed and 'order' in printed
    [row] = [line for line in printed.splitlines() if 'theta 2.5' in line]
    assert '0.583' in row and '1.00' in row
    tool.plot({tool.BOX: figures, tool.TAKEN: figures}, tmp_path / 'a.png')
    assert Image.open(tmp_path / 'a.png').size[0] > 200
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


@pytest.mark.parametrize('option', ['--plot', '--sheet'])
def test_a_picture_that_cannot_be_written_is_told_before_the_work(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    monkeypatch.setattr(tool, 'load_model', lambda *_: pytest.fail('work was done'))
    config = str(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
    with pytest.raises(SystemExit, match=r'analyze_pseudo_masks\.py: error: .* cannot be written'):
        tool.main([config, 'c.pth', '--truth', config, option, str(tmp_path)])
