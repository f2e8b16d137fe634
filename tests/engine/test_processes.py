"""Several processes are one process with the whole batch."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, get_dist_info
from mmengine.hooks import Hook

from mmboxvis.models.losses import pseudo_mask_loss
from mmboxvis.models.task_modules.clip_assigner import ClipAssigner
from mmboxvis.registry import HOOKS
from tests.engine.small_runs import Run, make_config

GLOBAL_BATCH = 4
STEPS = 4
VIDEOS = 3


@HOOKS.register_module()
class DealtOutHook(Hook):
    """Makes a step the same however its clips are dealt out, and writes the mean of its losses.

    Points are drawn by process and not by clip, so they are fixed here. In the first step every
    second clip has no object, so that with 2 and 4 processes every second process has none and no
    pair; in the second step nobody has one; in the third no pseudo mask is confident.
    """

    priority = 'LOWEST'

    def __init__(self, path: str) -> None:
        self.path = path

    def before_train(self, runner: Any) -> None:
        """Fixes the points, in this process alone."""
        grid = torch.linspace(0.02, 0.98, 8)
        points = torch.cartesian_prod(grid, grid)
        ClipAssigner._draw_points = lambda self, device: points  # type: ignore[method-assign]
        pseudo_mask_loss.sample_uncertain_points = (  # type: ignore[assignment]
            lambda logits, *args, **kwargs: points.expand(len(logits), -1, -1)
        )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Takes objects out of the batch."""
        rank, world_size = get_dist_info()
        model = getattr(runner.model, 'module', runner.model)
        model.confidence.value = 2.0 if runner.iter == 2 else 0.0
        for i, sample in enumerate(data_batch['data_samples']):
            if runner.iter == 1 or (runner.iter == 0 and (i * world_size + rank) % 2):
                for frame in sample:
                    frame.gt_instances = frame.gt_instances[:0]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Writes the losses."""
        rank, world_size = get_dist_info()
        means = {}
        for name, value in outputs.items():
            if 'loss' in name:
                total = torch.as_tensor(value).detach().double().clone()
                all_reduce(total)
                means[name] = float(total) / world_size
        if rank == 0:
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(json.dumps(means) + '\n')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('processes')


@pytest.fixture(scope='module')
def cfg(folder: Path) -> Config:
    cfg = make_config(folder)
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform['type'] == 'ClipResizeShortEdge':
            transform.update(short_edges=(48,))  # padding is up to the clips that share a process
    # AdamW would blow differences of the last bit up to whole steps
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=1e-3)
    cfg.optim_wrapper.paramwise_cfg = None
    cfg.param_scheduler = None
    cfg.train_cfg.max_iters = STEPS
    cfg.model.criterion.assigner.num_points = 64
    return cfg


def train(cfg: Config, folder: Path, world_size: int) -> tuple[list[dict[str, float]], Run]:
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.batch_size = GLOBAL_BATCH // world_size
    path = folder / f'losses_{world_size}'
    cfg.default_hooks.dealt_out = dict(type='DealtOutHook', path=str(path))
    run = Run(cfg, folder / f'run_{world_size}', world_size).finish()
    return [json.loads(line) for line in path.read_text().splitlines()], run


@pytest.fixture(scope='module')
def alone(cfg: Config, folder: Path) -> tuple[list[dict[str, float]], Run]:
    return train(cfg, folder, 1)


@pytest.mark.slow
@pytest.mark.parametrize('world_size', [2, 4])
def test_losses_are_those_of_one_process(
    cfg: Config, folder: Path, alone: tuple[list[dict[str, float]], Run], world_size: int
) -> None:
    losses, run = train(cfg, folder, world_size)
    assert len(losses) == STEPS and losses[1]['loss_proj'] == losses[2]['loss_mask'] == 0
    assert losses[0]['loss_pair'] > 0 and losses[3]['loss_mask'] > 0
    for step, (several, one) in enumerate(zip(losses, alone[0])):
        assert several == pytest.approx(one, rel=1e-5, abs=1e-5), f'step {step}'
    first, second = (x.saved(f'iter_{STEPS}.pth')['state_dict'] for x in (run, alone[1]))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('world_size', [2, 4])
def test_results_are_those_of_one_process(
    cfg: Config, folder: Path, alone: tuple[list[dict[str, float]], Run], world_size: int
) -> None:
    """Three videos: with 2 processes one has more to do, with 4 one has nothing."""
    checkpoint = str(alone[1].folder / f'iter_{STEPS}.pth')
    results = []
    for processes in (1, world_size):
        run = Run(cfg, folder / f'test_{world_size}_{processes}', processes, 'tools/test.py')
        run.finish(checkpoint, '--out', str(run.folder / 'results.json'))
        metrics = json.loads((run.folder / 'metrics.json').read_text())
        metrics.pop('test_seconds')
        results.append((json.loads((run.folder / 'results.json').read_text()), metrics))
    assert len({entry['video_id'] for entry in results[0][0]}) == VIDEOS
    assert results[0] == results[1]
