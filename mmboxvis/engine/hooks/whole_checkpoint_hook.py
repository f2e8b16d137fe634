"""Checkpoints that a kill at any moment leaves usable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmboxvis.engine.checkpoint_files import plain, plain_history, rebuilt_history
from mmboxvis.registry import HOOKS

_VALIDATED = 'validated_step'


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, safe at every moment.

    * The oldest checkpoint is removed after the new one is on the disk, not before.
    * Files hold tensors and plain values only and load with ``torch.load(weights_only=True)``.
    * A validation that was broken off is repeated when the run is resumed.

    That a file is written whole or not at all is the work of
    :class:`~mmboxvis.engine.ResumableRunner`.

    Args:
        kwargs: as in mmengine.
    """

    last_ckpt: str | None
    _saving: dict[str, int] | None = None
    _saved = False

    @classmethod
    def of(cls, runner: Runner) -> WholeCheckpointHook | None:
        """The one among the hooks of a run, ``None`` where it saves in another way."""
        return next((hook for hook in runner.hooks if isinstance(hook, cls)), None)

    def save_now(self, runner: Runner, *, between_steps: bool = False) -> str:
        """Saves the state after the current training step, from ``after_train_iter``.

        Args:
            runner: it.
            between_steps: the step is over and counted, and the next one has not begun.

        Returns:
            The path of the file, or, in runs that count epochs, of the last one there is: mmengine
            cannot resume within an epoch.
        """
        step = runner.iter + int(not between_steps)
        if not self.by_epoch and not self._is_newest(step):
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=step))
        return str(self.last_ckpt)

    def before_train(self, runner: Runner) -> None:
        """Prepares as mmengine does, and remembers the checkpoint that a run was resumed from."""
        super().before_train(runner)
        name = Path(runner.message_hub.runtime_info.get('last_ckpt') or '').name
        path = self.file_backend.join_path(self.out_dir, name)
        if name and self.last_ckpt is None and self.file_backend.exists(path):
            self.last_ckpt = path

    def before_train_epoch(self, runner: Runner) -> None:
        """Validates where a run that is resumed was broken off before or in its validation."""
        loop = runner.train_loop
        if self.by_epoch or not isinstance(loop, IterBasedTrainLoop) or runner.val_loop is None:
            return
        step = runner.iter
        loop._decide_current_val_interval()  # it may differ from step to step
        due = step % loop.val_interval == 0 or step == runner.max_iters
        done = runner.message_hub.runtime_info.get(_VALIDATED) == step
        if step and step >= loop.val_begin and due and not done:
            runner.logger.info(f'the validation after step {step} has not been done: now it is')
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Saves the best as mmengine does, and that this validation is done."""
        runner.message_hub.update_info(_VALIDATED, runner.iter)
        self._saved = False
        super().after_val_epoch(runner, metrics or {})
        # mmengine writes the newest again only where it is the best
        if not self.by_epoch and self._is_newest(runner.iter) and not self._saved:
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self._save_checkpoint_with_step(runner, runner.iter, meta)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Makes all of it plain that is not weights."""
        if self._saving is not None:  # a FlexibleRunner writes the step after the one it is at
            checkpoint['meta'].update(self._saving)
        checkpoint['message_hub'] = plain_history(checkpoint['message_hub'])
        for part in checkpoint.keys() - {'state_dict'}:
            checkpoint[part] = plain(checkpoint[part])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Makes mmengine's objects of it again."""
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = rebuilt_history(checkpoint['message_hub'])

    def _is_newest(self, step: int) -> bool:
        """Whether the checkpoint of a step is the last one that was written."""
        return self.filename_tmpl.format(step) == Path(self.last_ckpt or '').name

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        kept = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else None
        oldest = None
        if kept and len(kept) == self.max_keep_ckpts and kept[-1] != step:
            oldest = kept.popleft()  # with room for the new one mmengine removes nothing
        epoch, iteration = (step, runner.iter) if self.by_epoch else (runner.epoch, step)
        self._saving = dict(epoch=epoch, iter=iteration)
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self._saving = None
        self._saved = True
        if oldest is not None and is_main_process():
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(oldest))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):
                self.file_backend.rmtree(path)
