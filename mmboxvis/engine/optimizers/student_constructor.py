"""An optimiser of the student alone."""

from __future__ import annotations

import logging
from typing import Any, cast

from mmengine.logging import MMLogger, print_log
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

    mmengine makes a group of every parameter as soon as one has options of its own. A GPU steps a
    group in a few calls, however many parameters are in it, so parameters with the same options
    are put into one. It also warns of each frozen parameter, which are many in a frozen backbone;
    here one line tells how many there are.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimiser for ``model.student``."""
        inner = cast(nn.Module, model.module if is_model_wrapper(model) else model)
        logger = MMLogger.get_current_instance()
        logger.addFilter(_tells_more)
        student = inner.get_submodule('student')
        try:
            # mmengine looks for the wrapper in its own registry wherever no default scope is set
            with DefaultScope.overwrite_default_scope('mmboxvis'):
                wrapper = super().__call__(student)
        finally:
            logger.removeFilter(_tells_more)
        frozen = sum(not parameter.requires_grad for parameter in student.parameters())
        if frozen:
            print_log(f'{frozen} frozen parameters of the student are not optimised', 'current')
        return wrapper

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Adds a group for each set of options; see mmengine for the arguments."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if not prefix:  # not a call for a child of the module
            defaults = {'lr': self.base_lr, 'weight_decay': self.base_wd}
            params[:] = _merged(params, {k: v for k, v in defaults.items() if v is not None})


def _tells_more(record: logging.LogRecord) -> bool:
    """Whether a message is another than that on a frozen parameter."""
    return 'is skipped since its requires_grad=False' not in record.getMessage()


def _merged(groups: list[dict[str, Any]], defaults: dict[str, Any]) -> list[dict[str, Any]]:
    """Groups in the order of their first parameters."""
    by_options: dict[Any, dict[str, Any]] = {}
    for group in groups:
        # what mmengine has multiplied the rate and the decay by is in these already
        options = defaults | {
            name: value
            for name, value in group.items()
            if name not in ('params', 'lr_mult', 'decay_mult')
        }
        key = tuple(sorted((name, repr(value)) for name, value in options.items()))
        by_options.setdefault(key, {'params': [], **options})['params'].extend(group['params'])
    return list(by_options.values())
