"""Number formats, for what must not be computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Casts halves (and integers) to float32 and leaves wider floats alone."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
