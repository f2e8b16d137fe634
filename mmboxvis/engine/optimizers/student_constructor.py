"""An optimiser of the student alone."""

from __future__ import annotations

from typing import cast

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmboxvis.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, given the student instead of the whole model.

    The teacher is averaged, never optimised. Handed the whole model, mmengine would carry each of
    its parameters through the optimiser's groups and checkpoints, and warn of every one.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimiser for ``model.student``."""
        inner = cast(nn.Module, model.module if is_model_wrapper(model) else model)
        # mmengine looks for the wrapper in its own registry wherever no default scope is set
        with DefaultScope.overwrite_default_scope('mmboxvis'):
            return super().__call__(inner.get_submodule('student'))
