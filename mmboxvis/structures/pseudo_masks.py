"""Pseudo masks made by the teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PseudoMasks:
    """The teacher's mask for each of the N annotated instances of a clip.

    Attributes:
        query_inds: (N,) int64, the teacher query matched to each instance, or -1 where N > Q
            left an instance without one.
        scores: (N,) in [0, 1], class probability times projection score.
        masks: (N, T, H, W) in [0, 1], soft masks cut to the boxes.
    """

    query_inds: Tensor
    scores: Tensor
    masks: Tensor
