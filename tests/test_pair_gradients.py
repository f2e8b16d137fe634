"""What the pairs of rows teach a network: cosines of gradients."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from mmboxvis.models.losses import STPALoss
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.structures import ClipTargets
from tests.models.tiny import TWO_OBJECTS, make_batch, make_boxvis, make_clip, make_sample
from tests.test_analysis_tools import load


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load('pair_gradients')


def test_cosines(tool: ModuleType) -> None:
    up = torch.tensor([1.0, 0.0])
    found = dict(a=up, b=2 * up, c=-up, d=torch.tensor([0.0, 3.0]), e=0 * up)
    values = tool.cosines(found, [*found, 'nothing kept'])
    torch.testing.assert_close(values[0, :4], torch.tensor([1.0, 1.0, -1.0, 0.0]))
    assert values[4].isnan().all() and values[5].isnan().all()


def test_rows_of_one_loss_teach_the_same(tool: ModuleType) -> None:
    torch.manual_seed(0)
    model = make_boxvis().train()
    batch = make_batch(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    size = (int(batch['inputs'].shape[-2]), int(batch['inputs'].shape[-1]))
    targets = ClipTargets.from_data_sample(batch['data_samples'][0], size)
    clip = tool.Clip(rgb_to_lab(batch['rgb'][0]), None, targets, inputs=batch['inputs'])

    def row(**options: object) -> object:
        options = dict(color_thr=0.0, corr_thr=-1.0) | options
        return tool.Losses(torch.nn.Identity(), STPALoss(**options))

    rows = dict(
        once=row(),
        twice=row(loss_weight=2.0),
        spatial=row(num_neighbors=2),
        none=row(color_thr=9.0),
    )
    found = tool.gradients(model, clip, rows)
    assert list(found) == ['once', 'twice', 'spatial']
    trained = [p for p in model.student.parameters() if p.requires_grad]
    assert all(part.shape == (sum(p.numel() for p in trained),) for part in found.values())
    torch.testing.assert_close(found['twice'], 2 * found['once'])
    values = tool.cosines(found, list(rows))
    assert values[0, 1] == pytest.approx(1, abs=1e-5)
    assert -1 < values[0, 2] < 0.9999
    assert all(p.grad is None for p in trained)
    empty = make_batch(model, [make_clip()], [make_sample({})])['data_samples'][0]
    clip = replace(clip, targets=ClipTargets.from_data_sample(empty, size))
    assert tool.gradients(model, clip, rows) == {}


def test_table(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    values = torch.tensor([[[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.7], [0.7, 1.0]]])
    values = torch.cat([values, torch.full((1, 2, 2), torch.nan)])  # a clip that keeps no pair
    tool.Console(width=100).print(tool.render(values, ['first', 'second']))
    assert '0.600 ± 0.100' in capsys.readouterr().out


def test_what_cannot_be_compared(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(['table3', 'none.pth', '--rows', 'projection', '+ pairs']) == 1
    assert 'needs two rows that differ in their pairs' in capsys.readouterr().err
    assert tool.main(['table4', 'none.pth']) == 1
    assert 'none.pth' in capsys.readouterr().err
