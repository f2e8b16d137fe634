"""A runner whose runs can be repeated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process, master_only
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from mmboxvis.engine.checkpoint_files import (
    CheckpointError,
    checkpoint_folder,
    local_checkpoint,
    newest_whole,
    read_checkpoint,
    saved_steps,
)
from mmboxvis.engine.hooks import WholeCheckpointHook
from mmboxvis.files import AnnotationError, FrameError, whole_file
from mmboxvis.registry import RUNNERS

from .seeded_draws import NumberedSampler, SeededDraws


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """mmengine's runner, where one seed is one run.

    * A training sample is a function of the seed and of its place in the run, whatever the number
      of workers (:class:`SeededDraws`).
    * ``num_threads`` in the config fixes the threads of torch on the CPU: sums come out
      differently with another number of them, and after some hundred steps so does every figure.
      Without it there are as many as torch likes.
    * A checkpoint is written whole or not at all, and read only if it is whole and holds nothing
      but tensors and plain values. ``resume`` without a path takes the newest that is so; where
      there is none the run starts anew, from ``start_from`` in the config if that is set.
    * Where data turn out to be broken in the middle of a run, the steps made are saved before the
      error goes on: mend the file and ``resume``. (In several processes the others wait for the
      one in error, and the last regular checkpoint has to do.)

    With :class:`StepSeedHook` among the hooks, two runs on one machine and in one number of
    processes are equal bit for bit, and so are a run and the same run interrupted and resumed.
    """

    _train_dataloader: Any
    _load_from: str | None
    _resume: bool

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Sets up the processes as mmengine does, and the number of threads."""
        super().setup_env(env_cfg)
        if self.cfg.get('num_threads'):
            torch.set_num_threads(int(self.cfg.num_threads))

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Builds the loop over samples that are seeded one by one."""
        if not isinstance(loop, BaseLoop):
            self._train_dataloader = seeded_loader(self._train_dataloader, int(self.seed or 0))
        return super().build_train_loop(loop)

    def train(self) -> nn.Module:
        """Trains; with ``resume`` from the newest checkpoint of the work folder that is whole."""
        if is_main_process():
            for left_over in Path(self.work_dir).glob('.*.part.pth'):  # of a run that was killed
                left_over.unlink()
        if self._resume and self._load_from is None:
            self._load_from = self._newest()
            if self._load_from is None:
                self._resume, self._load_from = False, self.cfg.get('start_from')
                self.logger.info(f'{self.work_dir} holds no checkpoint to resume: starting anew')
        if self._resume and self._load_from is not None:
            self._take_seed(self._load_from)
        if not self._resume and is_main_process():
            self._warn_of_another_run()
        try:
            return super().train()
        except (AnnotationError, FrameError):
            self._keep_steps()
            raise

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Saves as mmengine does, to a file that appears when it is complete and on the disk."""
        if not _is_local(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        with whole_file(Path(out_dir) / filename) as temporary:
            # not out_dir, which a link may lead out of
            super().save_checkpoint(str(temporary.parent), temporary.name, *args, **kwargs)
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module.', ''),),
    ) -> dict[str, Any]:
        """Loads a checkpoint into the model; arguments as in mmengine.

        Returns:
            What the file holds.

        Raises:
            CheckpointError: if it is broken, holds other objects than tensors and plain values, is
                elsewhere and cannot be fetched, or names none of the model's tensors.
        """
        with local_checkpoint(filename) as path:
            checkpoint = read_checkpoint(path, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        missing: list[str] = []
        # mmengine tells of missing tensors in the log alone, even where it found not one
        counter = model.register_load_state_dict_post_hook(
            lambda _, keys: missing.extend(keys.missing_keys)
        )
        _load_checkpoint_to_model(model, checkpoint, strict, revise_keys=list(revise_keys))
        counter.remove()
        wanted = {name for name in model.state_dict() if 'num_batches_tracked' not in name}
        if wanted and wanted <= set(missing):
            raise CheckpointError(
                f'{filename} holds none of the {len(wanted)} tensors of the model; weights of '
                "detectron2's Mask2Former and of the released BoxVIS have to go through "
                'tools/model_converters/from_official.py first'
            )
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def _keep_steps(self) -> None:
        """Saves what a run has done so far that cannot read its next clip."""
        keeper = WholeCheckpointHook.of(self)
        if keeper is None or get_world_size() > 1 or not self.iter or self.iter >= self.max_iters:
            return
        saved = keeper.save_now(self, between_steps=True)
        self.logger.warning(f'cannot go on after step {self.iter}, saved {saved}')

    def _warn_of_another_run(self) -> None:
        """Tells that a run that starts anew will write over the checkpoints of another."""
        there = list(saved_steps(checkpoint_folder(self.work_dir)))
        if there:
            self.logger.warning(
                f'this run starts anew and writes over what an earlier one left in '
                f'{there[-1].parent} (up to {there[-1].name}); --resume goes on with that, '
                '--work-dir takes another folder'
            )

    def _newest(self) -> str | None:
        """The newest checkpoint of the run that is whole, the same in all processes."""
        found = [newest_whole(self.work_dir) if is_main_process() else None]
        broadcast_object_list(found)
        return None if found[0] is None else str(found[0])

    def _take_seed(self, path: str) -> None:
        """Takes the seed of the run that is resumed, before a sampler is built with another."""
        if self._randomness_cfg.get('seed') is not None:
            return
        with local_checkpoint(path) as local:
            seed = read_checkpoint(local).get('meta', {}).get('seed')
        if seed is not None:
            self._randomness_cfg.update(seed=seed)
            self.set_randomness(**self._randomness_cfg)


def _is_local(path: str) -> bool:
    return '://' not in str(path)


def seeded_loader(loader: Any, seed: int) -> Any:
    """Returns a data loader's config with data set and sampler wrapped.

    One that is built already, or has no config for both, is returned as it is.

    Args:
        loader: config as ``Runner.build_dataloader`` takes it.
        seed: the run's.
    """
    if not isinstance(loader, dict):
        return loader
    dataset, sampler = loader.get('dataset'), loader.get('sampler')
    if not isinstance(dataset, dict) or not isinstance(sampler, dict):
        return loader
    return {
        **loader,
        'dataset': dict(type=SeededDraws, dataset=dataset, seed=seed),
        'sampler': dict(type=NumberedSampler, sampler=sampler),
    }
