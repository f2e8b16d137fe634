"""Whole training runs small enough for tests, each in a process of its own that can be killed."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmboxvis.datasets import generate_toyvis
from mmboxvis.registry import HOOKS
from tests.models.tiny import criterion_cfg, network_cfg

ROOT = Path(__file__).resolve().parents[2]
STEPS = 40


@HOOKS.register_module()
class DiaryHook(Hook):
    """Writes a line for every batch before it is used: step, clips and a digest of all pixels."""

    priority = 'LOWEST'

    def __init__(self, path: str) -> None:
        self.path = f'{path}.{get_rank()}'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Adds the line."""
        digest = hashlib.sha256(b''.join(x.numpy().tobytes() for x in data_batch['inputs']))
        clips = [f'{s.video_id}:{s.metainfo["frame_ids"]}' for s in data_batch['data_samples']]
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(f'{runner.iter + 1} {" ".join(clips)} {digest.hexdigest()}\n')


def make_config(folder: Path, **changes: Any) -> Config:
    """BoxVIS with 8 to 64 channels on 6 videos, 40 steps of one clip, saved every third."""
    data = folder / 'data'
    if not data.exists():
        generate_toyvis(data, num_train=6, num_val=3, seed=1, size=[48, 64])
    cfg = Config.fromfile(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
    # update() would merge them into what is there
    cfg.model.network = network_cfg()
    cfg.model.criterion = criterion_cfg()
    cfg.model.confidence = dict(type='ConfidenceSchedule', mode='constant', value=0.0)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(data_root=str(data), generate=None)
        loader.update(num_workers=0, persistent_workers=False)
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform['type'] == 'ClipResizeShortEdge':
            transform.update(short_edges=(32, 40, 48), max_long=64)
    cfg.train_dataloader.update(batch_size=1)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(data / 'val/instances.json')
    cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS + 1, val_begin=STEPS + 1)
    cfg.param_scheduler[1].update(end=STEPS, begin=5)
    cfg.param_scheduler[0].update(end=5)
    cfg.default_hooks.checkpoint.update(interval=3, max_keep_ckpts=2)
    cfg.default_hooks.logger.update(interval=10)
    cfg.merge_from_dict(changes)
    return cfg


class Run:
    """A run of a tool, in one process or in several that meet over gloo.

    Args:
        cfg: its config.
        folder: its work folder.
        world_size: processes.
        tool: what is run.
    """

    def __init__(
        self, cfg: Config, folder: Path, world_size: int = 1, tool: str = 'tools/train.py'
    ) -> None:
        self.folder = folder
        self.tool = tool
        self.world_size = world_size
        folder.mkdir(parents=True, exist_ok=True)
        cfg = copy.deepcopy(cfg)
        cfg.default_hooks.diary = dict(type='DiaryHook', path=str(folder / 'diary'))
        # outside: mmengine writes the config as changed by the command line into the work folder
        self.config = folder.with_suffix('.py')
        cfg.dump(self.config)
        self.processes: list[Any] = []

    def start(self, *arguments: str) -> Run:
        """Starts it; arguments as for the tool, after the config."""
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context('fork')  # spares the imports
        self.processes = [
            context.Process(target=self._child, args=(rank, port, arguments))
            for rank in range(self.world_size)
        ]
        for process in self.processes:
            process.start()
        return self

    def wait(self) -> list[int]:
        """Waits for its end and returns the exit codes."""
        for process in self.processes:
            process.join(timeout=300)
        return [process.exitcode for process in self.processes]

    def finish(self, *arguments: str) -> Run:
        """Runs to the end, which must be a good one."""
        codes = self.start(*arguments).wait()
        assert codes == [0] * self.world_size, self.log()[-3000:]
        return self

    def kill_at(self, step: int, delay: float = 0.0, number: int = signal.SIGKILL) -> None:
        """Sends a signal once the diary has reached a step, to all of it."""
        while all(process.is_alive() for process in self.processes):
            if any(int(line.split()[0]) >= step for line in self.diary(0)[-1:]):
                break
            time.sleep(0.002)
        time.sleep(delay)
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)  # with the workers of its data loader

    def diary(self, rank: int = 0) -> list[str]:
        """Lines of a process; the last may be cut short by a kill and is then left out."""
        path = self.folder / f'diary.{rank}'
        text = path.read_text(encoding='utf-8') if path.exists() else ''
        return [line for line in text.split('\n')[:-1] if line]

    def log(self) -> str:
        """What its processes printed."""
        return '\n'.join(p.read_text() for p in sorted(self.folder.glob('printed.*')))

    def saved(self, name: str = f'iter_{STEPS}.pth') -> dict[str, Any]:
        """A checkpoint."""
        return torch.load(self.folder / name, weights_only=True)

    def _child(self, rank: int, port: int, arguments: Sequence[str]) -> None:
        os.setsid()
        with open(self.folder / f'printed.{rank}', 'a', encoding='utf-8') as printed:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
        # what pytest put in their place goes elsewhere
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        torch.set_num_threads(1)
        launcher = []
        if self.world_size > 1:
            launcher = ['--launcher', 'pytorch']
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(self.world_size),
                MASTER_ADDR='127.0.0.1',
                MASTER_PORT=str(port),
            )
        main = load_main(self.tool)
        main([str(self.config), *arguments, '--work-dir', str(self.folder), *launcher])


def load_module(path: str) -> ModuleType:
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


def load_main(path: str) -> Callable[[Sequence[str]], None]:
    """The function ``main`` of a tool."""
    return load_module(path).main
