"""Steps that are taken only with finite numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor

from mmboxvis.registry import OPTIM_WRAPPERS


def accumulates(wrapper: OptimWrapper) -> bool:
    """Whether gradients are there that wait for those of the next iteration.

    True between the iterations that ``accumulative_counts`` adds up to one step.
    """
    return wrapper.inner_count % wrapper._accumulative_counts != 0


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
        updated: whether the last call of :meth:`update_params` came to a step; with
            ``accumulative_counts`` of n every n-th does.
        skipped: whether it left that step out.
        grad_norm: norm of the gradient before it was clipped.
    """

    updated = False
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
        self.updated = self.skipped = False
        # times 1 changes no bit; a finite gradient below an infinite loss would pass unheard
        loss = loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clips the gradient and makes the step, or leaves it out."""
        self.updated = True
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

    Args:
        args: as for mmengine's wrapper.
        sharded: see :class:`FiniteSteps`; the scaler then hears of an overflow in any process.
        kwargs: as for mmengine's wrapper.
    """

    def __init__(self, *args: Any, sharded: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, sharded=sharded, **{'use_fsdp': sharded, **kwargs})

    def step(self, **kwargs: Any) -> None:
        """Hands the step to the scaler, or leaves it out where the gradient is not finite."""
        self.updated = True
        self.loss_scaler.unscale_(self.optimizer)
        self._clip_grad()
        # the scaler looks at gradients one by one: a norm may be too large though none of them is
        if not self.skipped:
            self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._scale_update_param)
