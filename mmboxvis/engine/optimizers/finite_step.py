"""Steps that are taken only with finite numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor

from mmboxvis.registry import OPTIM_WRAPPERS


class FiniteSteps(OptimWrapper):
    """Leaves out steps whose loss or gradient is not finite.

    A loss that is not finite makes all gradients so, which data-parallel averaging carries to
    every process: all decide alike, and nothing is sent for it. :class:`NonFiniteHook` counts and
    reports the steps.

    Args:
        sharded: each process holds a part of every parameter, as with FSDP: the norm of the
            gradient is then taken over all of them, which torch's clipping leaves out.
        kwargs: as for mmengine's wrappers.

    Attributes:
        skipped: whether the last call of :meth:`update_params` left its step out.
        grad_norm: norm of the gradient before it was clipped.
    """

    skipped = False
    grad_norm = math.nan
    clip_func: Any = None  # mmengine sets it only where there is something to clip

    def __init__(self, *args: Any, sharded: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sharded = sharded

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """Goes back and makes a step, if all numbers are finite."""
        self.skipped = False
        # times 1 changes no bit; a finite gradient below an infinite loss would pass unheard
        loss = loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clips the gradient and makes the step, or leaves it out."""
        self._clip_grad()
        if not self.skipped:
            self.optimizer.step(**kwargs)

    def _clip_grad(self) -> None:
        """Clips if asked to, and notes the norm."""
        groups = self.optimizer.param_groups
        params = [p for group in groups for p in group['params'] if p.grad is not None]
        if not params:
            return
        limits = dict(self.clip_grad_kwargs or {})
        by_norm = limits if self.clip_func is torch.nn.utils.clip_grad_norm_ else {}
        clip = _clip_shards if self.sharded else torch.nn.utils.clip_grad_norm_
        # below an infinite limit nothing is clipped
        norm = clip(params, **{'max_norm': math.inf, **by_norm})
        if limits and not by_norm:
            self.clip_func(params, **limits)
        self.grad_norm = float(norm)
        self.skipped = not math.isfinite(self.grad_norm)
        self.message_hub.update_scalar('train/grad_norm', self.grad_norm)


def _clip_shards(params: list[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Clips by the norm over the parts that all processes hold, and returns it."""
    if norm_type != 2:
        raise ValueError(f'with sharded=True the norm is the second, got norm_type={norm_type}')
    grads = [p.grad for p in params if p.grad is not None]
    total = torch.stack([grad.float().square().sum() for grad in grads]).sum()
    all_reduce(total)
    norm = total.sqrt()
    torch._foreach_mul_(grads, (max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(FiniteSteps):
    """mmengine's ``OptimWrapper`` with :class:`FiniteSteps`."""


@OPTIM_WRAPPERS.register_module()
class FiniteAmpOptimWrapper(FiniteSteps, AmpOptimWrapper):
    """mmengine's ``AmpOptimWrapper`` with :class:`FiniteSteps`.

    The scaler of the loss finds its scale by overflows, so that a few steps are left out at the
    start of every run in float16.
    """

    def step(self, **kwargs: Any) -> None:
        """Hands the step to the scaler, which leaves it out where a gradient is not finite."""
        self.loss_scaler.unscale_(self.optimizer)
        self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._scale_update_param)
