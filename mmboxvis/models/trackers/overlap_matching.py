"""What the overlap tracker compares and decides, as pure functions.

D detections of a clip, M tracks; the other letters as in :mod:`~.base`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


def soft_hard_iou(mask_logits: Tensor) -> Tensor:
    """IoU between the hard mask of one detection and the soft mask of another.

    ``IoU[i, j] = sum(soft_j * hard_i) / sum(soft_j + hard_i - soft_j * hard_i)`` with
    ``soft = sigmoid(logits)`` and ``hard = soft > 0.5``, summed over all pixels and frames. The
    sums of products are one matrix product; no (D, D, t, h, w) tensor is made.

    Args:
        mask_logits: (D, t, h, w).

    Returns:
        (D, D) float32 in [0, 1], not symmetric.
    """
    logits = mask_logits.flatten(1).float()
    soft, hard = logits.sigmoid(), (logits > 0).float()
    intersection = hard @ soft.T
    union = hard.sum(1)[:, None] + soft.sum(1)[None] - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def keep_best(similarity: Tensor, threshold: float) -> Tensor:
    """Non-greedy suppression: whoever resembles someone better is dropped.

    Other than in usual NMS, one that is dropped itself still suppresses those behind it.

    Args:
        similarity: (D, D), detections best first; row i is compared as the better one.
        threshold: column j is dropped where some ``similarity[i, j] >= threshold`` with i < j.

    Returns:
        (D,) bool, the first is always kept.
    """
    return ~(similarity >= threshold).triu(1).any(0)


def embedding_scores(memory: Tensor, embeds: Tensor) -> Tensor:
    """Bi-softmax of raw dot products: how much tracks and detections choose each other.

    Mean of the softmax over tracks and the softmax over detections. A softmax over a single item
    says nothing and is left out; a single track and a single detection are compared by cosine.

    Args:
        memory: (M, C) embeddings of the tracks.
        embeds: (D, C) embeddings of the detections.

    Returns:
        (M, D) float32, in [0, 1] except for the cosine.
    """
    memory, embeds = memory.float(), embeds.float()
    if len(memory) == 1 and len(embeds) == 1:
        return F.cosine_similarity(memory, embeds)[:, None]
    products = memory @ embeds.T
    if len(embeds) == 1:
        return products.softmax(0)
    if len(memory) == 1:
        return products.softmax(1)
    return (products.softmax(0) + products.softmax(1)) / 2


def hard_iou(logits_a: Tensor, logits_b: Tensor, *, halve: bool = False) -> Tensor:
    """IoU of the masks ``logit > 0`` over all pixels and frames of each pair.

    Args:
        logits_a: (M, f, h, w).
        logits_b: (D, f, h, w).
        halve: compares at half the size (bilinear), to save time where there are many.

    Returns:
        (M, D) float32 in [0, 1]; 0 where both masks are empty or there is no frame.
    """
    if 0 in logits_a.shape or 0 in logits_b.shape:
        return logits_a.new_zeros(len(logits_a), len(logits_b), dtype=torch.float32)
    if halve:
        size = [max(side // 2, 1) for side in logits_a.shape[-2:]]
        logits_a, logits_b = (
            F.interpolate(x.float(), size, mode='bilinear', align_corners=False)
            for x in (logits_a, logits_b)
        )
    hard_a, hard_b = ((x > 0).flatten(1).float() for x in (logits_a, logits_b))
    intersection = hard_a @ hard_b.T
    union = hard_a.sum(1)[:, None] + hard_b.sum(1)[None] - intersection
    return intersection / union.clamp(min=1)


@dataclass(frozen=True)
class Association:
    """Which detection continues which track; all on the CPU.

    Attributes:
        tracks: (m,) int64, tracks that are continued.
        detections: (m,) int64, the detection that continues each.
        births: (n,) int64, detections that start a track, in ascending order.
    """

    tracks: Tensor
    detections: Tensor
    births: Tensor


def associate(
    embed_scores: Tensor,
    mask_scores: Tensor,
    det_scores: Tensor,
    *,
    match_thr: float,
    birth_thr: float,
    duplicate_embed_thr: float,
    duplicate_mask_thr: float,
) -> Association:
    """Matches detections to tracks one to one and says which of the rest are new.

    The assignment maximises the sum of both scores, where sums of at most ``match_thr`` count as 0
    and are never accepted. A detection left over is a duplicate where it resembles a track in both
    scores; any other starts a track if its class score is high enough.

    Args:
        embed_scores: (M, D).
        mask_scores: (M, D).
        det_scores: (D,) class scores.
        match_thr: least sum of both scores, exclusive.
        birth_thr: least class score of a new track, exclusive.
        duplicate_embed_thr: least embedding score of a duplicate, exclusive.
        duplicate_mask_thr: least mask score of a duplicate, exclusive.

    Returns:
        The decision. With M = 0 every detection starts a track, whatever its score.
    """
    num_tracks, num_dets = embed_scores.shape
    if num_tracks == 0:
        none = torch.zeros(0, dtype=torch.long)
        return Association(none, none, torch.arange(num_dets))
    # one transfer: both score matrices and the detections' own scores
    packed = torch.cat([embed_scores, mask_scores, det_scores[None].to(embed_scores)]).cpu()
    embed, mask, own = packed[:num_tracks], packed[num_tracks:-1], packed[-1]

    total = embed + mask
    total = torch.where(total > match_thr, total, 0)
    tracks, dets = (
        torch.from_numpy(inds) for inds in linear_sum_assignment(total.numpy(), maximize=True)
    )
    accepted = total[tracks, dets] > 0
    tracks, dets = tracks[accepted], dets[accepted]

    left = torch.ones(num_dets, dtype=torch.bool)
    left[dets] = False
    duplicate = (embed.amax(0) > duplicate_embed_thr) & (mask.amax(0) > duplicate_mask_thr)
    births = torch.nonzero(left & ~duplicate & (own > birth_thr)).flatten()
    return Association(tracks, dets, births)
