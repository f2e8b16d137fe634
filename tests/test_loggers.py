"""Losses reach TensorBoard and Weights & Biases through the runner's visualizer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

import mmboxvis  # noqa: F401, registers the scope


class Numbers(Dataset):
    """Four numbers."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index)])


class Line(BaseModel):
    """A model with one parameter and one loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, *inputs: torch.Tensor, mode: str = 'loss') -> dict[str, torch.Tensor]:
        return dict(loss_proj=self.layer(torch.stack(inputs)[:, None]).square().mean())


def train(work_dir: Path, backend: dict) -> None:
    """Trains three steps with a further backend beside the local one."""
    Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            dataset=Numbers(),
            sampler=dict(type='InfiniteSampler'),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None),
        log_processor=dict(by_epoch=False, window_size=1),
        visualizer=dict(
            type='Visualizer',
            vis_backends=[dict(type='LocalVisBackend'), backend],
            name=f'{work_dir.name}_visualizer',
        ),
        default_scope='mmboxvis',
        experiment_name=work_dir.name,
    ).train()


def test_tensorboard(tmp_path: Path) -> None:
    reader = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator',
        reason='no tensorboard here (pip install tensorboard)',
    )
    train(tmp_path / 'board', dict(type='TensorboardVisBackend'))
    (events,) = tmp_path.rglob('events.out.tfevents*')
    found = reader.EventAccumulator(str(events))
    found.Reload()
    losses = found.Scalars('loss_proj')
    assert [event.step for event in losses] == [1, 2, 3]
    assert all(event.value > 0 for event in losses)
    assert [event.value for event in found.Scalars('lr')] == pytest.approx([0.01] * 3)
    assert list(tmp_path.rglob('scalars.json')), 'the local log is there as well'


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip('wandb', reason='no wandb here (pip install wandb)')
    for name in ('WANDB_DIR', 'WANDB_CONFIG_DIR', 'WANDB_CACHE_DIR', 'WANDB_DATA_DIR'):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        os.makedirs(tmp_path / name.lower())
    monkeypatch.setenv('WANDB_SILENT', 'true')
    init = dict(mode='offline', project='mmboxvis', name='a')
    train(tmp_path / 'wandb', dict(type='WandbVisBackend', init_kwargs=init))
    assert wandb.run is None or wandb.run.settings.mode == 'offline'
    wandb.finish()
    (stored,) = tmp_path.rglob('run-*.wandb')
    content = stored.read_bytes()
    assert b'loss_proj' in content
