"""Query matching over a whole video at once, with loops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Clip = tuple[Tensor, Tensor, Tensor]


def track_queries(
    clips: Sequence[Clip], starts: Sequence[int], memory_clips: int = 2
) -> tuple[Tensor, Tensor]:
    """Keeps all clips, brings each into the order of the first, then averages.

    Args:
        clips: cls_logits (Q, K+1), mask_logits (Q, t, h, w), embeds (Q, C) of each clip.
        starts: first frame of each clip.
        memory_clips: number of past clips in the memory.

    Returns:
        Scores (Q, K) and mean mask logits (Q, V, h, w).
    """
    aligned: list[Clip] = []
    for cls_logits, mask_logits, embeds in clips:
        num_queries = len(embeds)
        if aligned:
            past = [clip[2] for clip in aligned[-memory_clips:]]
            memory = sum(past) / len(past)
            cost = torch.zeros(num_queries, num_queries)
            for i in range(num_queries):
                for j in range(num_queries):
                    cost[i, j] = 1 - torch.cosine_similarity(memory[i], embeds[j], dim=0)
            _, order = linear_sum_assignment(cost.numpy())
        else:
            order = range(num_queries)
        aligned.append(
            tuple(torch.stack([x[j] for j in order]) for x in (cls_logits, mask_logits, embeds))
        )

    scores = sum(clip[0] for clip in aligned) / len(aligned)
    frames = []
    num_frames = max(start + clip[1].shape[1] for start, clip in zip(starts, aligned))
    for frame in range(num_frames):
        covering = [
            clip[1][:, frame - start]
            for start, clip in zip(starts, aligned)
            if start <= frame < start + clip[1].shape[1]
        ]
        frames.append(sum(covering) / len(covering))
    return scores.softmax(-1)[:, :-1], torch.stack(frames, 1)
