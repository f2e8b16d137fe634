"""Inference over a whole video at once: every clip from its pixels, every mask at full size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.query_tracker import track_queries

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class Track(NamedTuple):
    """One reported pair of query and class; ``logits`` is (V, H0, W0)."""

    query: int
    label: int
    score: float
    logits: Tensor


def to_input(frame: np.ndarray) -> Tensor:
    """(h, w, 3) BGR to (3, Hp, Wp), normalised RGB with zeros at the right and the bottom."""
    height, width = frame.shape[:2]
    padded = torch.zeros(3, (height + 31) // 32 * 32, (width + 31) // 32 * 32)
    for channel in range(3):
        values = torch.from_numpy(frame[..., 2 - channel].astype(np.float32))
        padded[channel, :height, :width] = (values - MEAN[channel]) / STD[channel]
    return padded


def clip_starts(num_frames: int, length: int, stride: int) -> list[int]:
    """First frames of the clips; the last clip ends with the video."""
    starts = list(range(0, max(num_frames - length, 0) + 1, stride))
    if starts[-1] + length < num_frames:
        starts.append(num_frames - length)
    return starts


@torch.no_grad()
def infer_video(
    model: Any,
    frames: Sequence[np.ndarray],
    ori_shape: tuple[int, int],
    *,
    clip_length: int = 3,
    clip_stride: int = 1,
    score_thr: float = 0.05,
    min_candidates: int = 10,
) -> list[Track]:
    """Runs backbone, pixel decoder and query decoder anew for each clip and keeps everything.

    Returns:
        The tracks, best first.
    """
    num_frames = len(frames)
    repeated = [*frames, *[frames[-1]] * (clip_length - num_frames)]
    inputs = torch.stack([to_input(frame) for frame in repeated])
    starts = clip_starts(num_frames, clip_length, clip_stride)
    clips = []
    for start in starts:
        prediction = model.student(inputs[None, start : start + clip_length])[-1]
        clips.append((prediction.cls_logits[0], prediction.mask_logits[0], prediction.embeds[0]))
    scores, mask_logits = track_queries(clips, starts)
    mask_logits = mask_logits[:, :num_frames]

    pairs = [
        (float(scores[query, label]), query, label)
        for query in range(scores.shape[0])
        for label in range(scores.shape[1])
    ]
    pairs.sort(reverse=True)
    kept = pairs[: max(sum(score > score_thr for score, *_ in pairs), min_candidates)]

    height, width = frames[0].shape[:2]
    tracks = []
    for score, query, label in kept:
        full = F.interpolate(mask_logits[query][None], inputs.shape[-2:], mode='bilinear')
        cut = full[..., :height, :width]
        quality = int((cut > 1).sum()) / max(int((cut > -1).sum()), 1)
        final = F.interpolate(cut, ori_shape, mode='bilinear')[0]
        tracks.append(Track(query, label, score * quality, final))
    return sorted(tracks, key=lambda track: -track.score)
