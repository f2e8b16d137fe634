"""How the weights of student and teacher are dealt out over processes."""

from __future__ import annotations

from mmengine.registry import FUNCTIONS
from torch import nn

from mmboxvis.models.vis import ClipNetwork


@FUNCTIONS.register_module()
def student_and_teacher(
    module: nn.Module, recurse: bool, nonwrapped_numel: int = 0, **kwargs: object
) -> bool:
    """Wrapping policy of FSDP: student and teacher are a unit each.

    Both are cut at the same places, since they are of one architecture, so that the teacher's
    average is taken piece by piece and nothing is gathered for it. With one unit for both,
    trained and frozen weights would share the pieces.

    Args:
        module: what is asked about.
        recurse: whether to look into it.
        nonwrapped_numel: not used.
        kwargs: not used.
    """
    return recurse or isinstance(module, ClipNetwork)
