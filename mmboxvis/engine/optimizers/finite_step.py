"""Steps that are taken only with finite numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor

from mmboxvis.registry import OPTIM_WRAPPERS


class FiniteSteps(OptimWrapper):
    """Leaves out steps whose loss or gradient is not finite.

    A loss that is not finite makes all gradients so, which data-parallel averaging carries to
    every process: all decide alike, and nothing is sent for it. :class:`NonFiniteHook` counts and
    reports the steps.

    Attributes:
        skipped: whether the last call of :meth:`update_params` left its step out.
        grad_norm: norm of the gradient before it was clipped.
    """

    skipped = False
    grad_norm = math.nan

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
        if self.clip_grad_kwargs and self.clip_func is torch.nn.utils.clip_grad_norm_:
            norm = self.clip_func(params, **self.clip_grad_kwargs)
        else:  # below an infinite limit nothing is clipped
            norm = torch.nn.utils.clip_grad_norm_(params, math.inf)
            if self.clip_grad_kwargs:
                self.clip_func(params, **self.clip_grad_kwargs)
        self.grad_norm = float(norm)
        self.skipped = not math.isfinite(self.grad_norm)
        self.message_hub.update_scalar('train/grad_norm', self.grad_norm)


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
