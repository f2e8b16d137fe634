"""A runner whose runs can be repeated."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

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

    With :class:`StepSeedHook` among the hooks, two runs on one machine and in one number of
    processes are equal bit for bit.
    """

    _train_dataloader: Any

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
