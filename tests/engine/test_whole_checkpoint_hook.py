"""Checkpoints of runners of both kinds say which step they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmboxvis.engine.hooks import WholeCheckpointHook


class OneLayer(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs: list[Tensor], mode: str = 'tensor', **kwargs: Any) -> Any:
        outputs = self.layer(torch.stack(list(inputs)))
        return dict(loss=outputs.sum()) if mode == 'loss' else [outputs]


class Ones(Dataset):
    metainfo: dict = {}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(inputs=torch.ones(1))


class Falling(BaseMetric):
    """Its first score is the best."""

    score = 1.0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(None)

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.score /= 2
        return dict(AP=self.score)


def make_runner(
    kind: type, folder: Path, settings: dict[str, Any] | None = None, **options: Any
) -> Any:
    """A runner of 4 steps; ``settings`` go to it, ``options`` to its hook."""
    loader = dict(dataset=Ones(), sampler=dict(type='mmengine.DefaultSampler', shuffle=False))
    hook = dict(type='WholeCheckpointHook', by_epoch=False, interval=2, rule='greater')
    return kind(
        **(settings or {}),
        model=OneLayer(),
        work_dir=str(folder),
        train_dataloader=loader | dict(batch_size=1, num_workers=0),
        val_dataloader=loader | dict(batch_size=1, num_workers=0),
        val_cfg={},
        val_evaluator=[Falling()],
        train_cfg=dict(by_epoch=False, max_iters=4, val_interval=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=hook | options),
        default_scope='mmboxvis',
        experiment_name=f'{folder.name}_{kind.__name__}',
        log_level='ERROR',
    )


@pytest.mark.parametrize('save_best', [None, 'AP'])
@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_a_checkpoint_is_of_the_step_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, save_best: str | None
) -> None:
    """Also where it is written again after a validation, the best one or not."""
    options = {} if save_best is None else dict(save_best=save_best)
    runner = make_runner(kind, tmp_path, **options)
    written: list[str] = []
    save = runner.save_checkpoint

    def count(out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        written.append(filename)
        save(out_dir, filename, *args, **kwargs)

    monkeypatch.setattr(runner, 'save_checkpoint', count)
    runner.train()
    # before the validation and after it
    assert [written.count(f'iter_{step}.pth') for step in (2, 4)] == [2, 2]
    for step in (2, 4):
        saved = torch.load(tmp_path / f'iter_{step}.pth', weights_only=True)
        assert saved['meta']['iter'] == step
        assert saved['message_hub']['runtime_info']['validated_step'] == step


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_saved_between_steps(tmp_path: Path, kind: type) -> None:
    runner = make_runner(kind, tmp_path, interval=100, save_last=False)
    runner.train()
    assert not list(tmp_path.glob('*.pth'))
    keeper = WholeCheckpointHook.of(runner)
    assert keeper is not None
    path = keeper.save_now(runner, between_steps=True)
    assert Path(path).name == 'iter_4.pth'
    assert torch.load(path, weights_only=True)['meta']['iter'] == 4
