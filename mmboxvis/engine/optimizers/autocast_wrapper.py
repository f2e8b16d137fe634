"""Mixed precision where mmengine has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.runner.amp import autocast

from mmboxvis.registry import OPTIM_WRAPPERS

from .finite_step import FiniteSteps


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(FiniteSteps):
    """Mixed precision in bfloat16 on a CPU, which mmengine's ``AmpOptimWrapper`` refuses.

    bfloat16 has the exponent range of float32, so the loss needs no scaling.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, in the device's own reduced precision.

        Args:
            model: The model that is trained.
        """
        with super().optim_context(model), autocast():
            yield
