"""Bytes and efficiency on several GPUs."""

from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from tests.engine.small_runs import ROOT, load_module
from tests.models.tiny import criterion_cfg, network_cfg

scaling = load_module('tools/analysis_tools/scaling.py')
CFG = Config(
    dict(
        model=dict(
            type='BoxVIS',
            network=network_cfg(),
            criterion=criterion_cfg(),
            pseudo_masks=dict(type='PseudoMaskGenerator'),
        )
    )
)


def test_parts_of_a_model() -> None:
    sizes = scaling.Sizes.of(CFG)
    assert sizes.trained + sizes.frozen == sizes.teacher > sizes.trained > 0
    alone = copy.deepcopy(CFG)
    alone.model.pseudo_masks = None
    assert scaling.Sizes.of(alone) == scaling.Sizes(sizes.trained, sizes.frozen, 0)


def test_what_each_strategy_deals_out() -> None:
    sizes = scaling.Sizes(trained=100, frozen=20, teacher=120)
    ddp, zero, fsdp = (sizes.memory(4, name) for name in ('ddp', 'zero2', 'fsdp'))
    assert ddp == dict(student=480, teacher=480, gradient=400, optimiser=800)
    assert zero == dict(student=480, teacher=480, gradient=100, optimiser=200)
    assert fsdp == dict(student=120, teacher=120, gradient=100, optimiser=200)
    assert sizes.exchanged() == 400


def test_efficiency_falls_with_the_exchange_and_not_below_it() -> None:
    assert scaling.efficiency(1e9, 1, 1e9, 1.0) == 1
    assert scaling.efficiency(1e9, 2, 1e9, 1.0) == pytest.approx(0.5)
    assert scaling.efficiency(1e9, 2, 1e9, 1.0, overlap=1.0) == 1
    assert scaling.efficiency(1e9, 64, 1e9, 1.0) == pytest.approx(1 / (1 + 2 * 63 / 64))


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main([str(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py'), '--gpus', '1', '8'])
    shown = capsys.readouterr().out
    assert 'averaged a step' in shown and shown.count('fsdp') == 1
