"""Overlap tracking of a whole video with lists, dicts and loops; keeps every clip of a window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Clip = tuple[Tensor, Tensor, Tensor]


@dataclass
class Settings:
    window: int = 30
    cls_thr: float = 0.05
    birth_thr: float = 0.1
    nms_mask_thr: float = 0.75
    nms_embed_thr: float = 0.85
    match_thr: float = 0.8
    duplicate_embed_thr: float = 0.75
    duplicate_mask_thr: float = 0.4
    max_unmatched_clips: int = 10
    recency: float = 0.25
    halve_from: int = 20


@dataclass
class Result:
    """Masks {id: (h, w)} of each frame, class scores {id: (K,)} of each window."""

    frames: list[dict[int, Tensor]] = field(default_factory=list)
    window_of_frame: list[int] = field(default_factory=list)
    windows: list[dict[int, Tensor]] = field(default_factory=list)


def detect(clip: Clip, cfg: Settings) -> list[dict[str, Any]]:
    cls_logits, mask_logits, embeds = clip
    found = []
    for q in range(len(cls_logits)):
        high, low = (mask_logits[q] > 1).sum(), (mask_logits[q] > -1).sum()
        cls = cls_logits[q].softmax(0)[:-1] * (high / max(int(low), 1))
        found.append(dict(cls=cls, score=float(cls.max()), masks=mask_logits[q], embed=embeds[q]))
    found.sort(key=lambda det: -det['score'])
    found = [det for n, det in enumerate(found) if n == 0 or det['score'] > cfg.cls_thr]

    def mask_iou(better: dict, worse: dict) -> float:
        soft = worse['masks'].sigmoid()
        hard = (better['masks'].sigmoid() > 0.5).float()
        return float((soft * hard).sum() / (soft + hard - soft * hard).sum())

    def cosine(better: dict, worse: dict) -> float:
        return float(torch.cosine_similarity(better['embed'], worse['embed'], dim=0))

    for similarity, thr in ((mask_iou, cfg.nms_mask_thr), (cosine, cfg.nms_embed_thr)):
        found = [
            det
            for n, det in enumerate(found)
            if all(similarity(better, det) < thr for better in found[:n])
        ]
    return found


def track_mean(track: dict, frame: int) -> Tensor | None:
    masks = [c['masks'][frame] for c in track['clips'] if c is not None and frame in c['masks']]
    return sum(masks) / len(masks) if masks else None


def track_class(track: dict) -> Tensor | None:
    classes = [c['cls'] for c in track['clips'] if c is not None]
    return sum(classes) / len(classes) if classes else None


def embed_scores(tracks: list, dets: list, cfg: Settings) -> Tensor:
    if len(tracks) == len(dets) == 1:
        scores = torch.cosine_similarity(tracks[0]['memory'], dets[0]['embed'], dim=0).view(1, 1)
    else:
        dot = torch.tensor([[float(t['memory'] @ d['embed']) for d in dets] for t in tracks])
        parts = []
        if len(tracks) > 1:
            parts.append(dot.exp() / dot.exp().sum(0, keepdim=True))
        if len(dets) > 1:
            parts.append(dot.exp() / dot.exp().sum(1, keepdim=True))
        scores = sum(parts) / len(parts)
    for row, track in enumerate(tracks):
        if track['unmatched'] >= cfg.max_unmatched_clips:
            scores[row] = 0
    return scores


def mask_scores(tracks: list, dets: list, start: int, seen: set[int], cfg: Settings) -> Tensor:
    halve = len(tracks) >= cfg.halve_from or len(dets) >= cfg.halve_from

    def hard(mask: Tensor) -> Tensor:
        if halve:  # of even sizes
            mask = torch.nn.functional.avg_pool2d(mask[None, None], 2)[0, 0]
        return mask > 0

    scores = torch.zeros(len(tracks), len(dets))
    for row, track in enumerate(tracks):
        for col, det in enumerate(dets):
            both = either = 0
            for offset, mask in enumerate(det['masks']):
                if start + offset not in seen:
                    continue
                saved = track_mean(track, start + offset)
                saved = torch.zeros_like(mask) if saved is None else saved
                both += int((hard(saved) & hard(mask)).sum())
                either += int((hard(saved) | hard(mask)).sum())
            scores[row, col] = both / max(either, 1)
    return scores


def assign(tracks: list, dets: list, start: int, seen: set[int], cfg: Settings) -> tuple:
    """Pairs of track and detection, and detections that are new."""
    if not tracks:
        return [], list(range(len(dets)))
    if not dets:
        return [], []
    embed = embed_scores(tracks, dets, cfg)
    iou = mask_scores(tracks, dets, start, seen, cfg)
    total = embed + iou
    total[total <= cfg.match_thr] = 0
    pairs = [
        (row, col)
        for row, col in zip(*linear_sum_assignment(total.numpy(), maximize=True))
        if total[row, col] > cfg.match_thr
    ]
    for row, col in pairs:
        embed[row, col], iou[row, col] = 0, -1
    new = []
    for col, det in enumerate(dets):
        if col in [pair[1] for pair in pairs]:
            continue
        duplicate = (
            embed[:, col].max() > cfg.duplicate_embed_thr
            and iou[:, col].max() > cfg.duplicate_mask_thr
        )
        if not duplicate and det['score'] > cfg.birth_thr:
            new.append(col)
    return pairs, new


def add_clip(tracks: list, dets: list, start: int, pairs: list, new: list, cfg: Settings) -> None:
    num_clips = max((len(track['clips']) for track in tracks), default=0)
    for track in tracks:
        track['unmatched'] += 1
        track['clips'].append(None)
    for col in new:
        pairs = [*pairs, (len(tracks), col)]
        tracks.append(dict(id=None, clips=[None] * (num_clips + 1), memory=None, unmatched=0))
    for row, col in pairs:
        track, det = tracks[row], dets[col]
        masks = {start + offset: mask for offset, mask in enumerate(det['masks'])}
        track['clips'][-1] = dict(masks=masks, cls=det['cls'], embed=det['embed'])
        track['unmatched'] = 0
        previous = track['clips'][-2] if len(track['clips']) > 1 else None
        if previous is None:
            track['memory'] = det['embed']
        else:
            weight = math.exp(cfg.recency)
            track['memory'] = (previous['embed'] + weight * det['embed']) / (1 + weight)


def put_out(
    tracks: list, result: Result, begin: int, end: int, num_ids: int, last: bool, cfg: Settings
) -> tuple[list, int]:
    """Writes frames begin..end-1; returns the tracks of the next window and the number of ids."""
    kept = []
    for track in tracks:
        cls = track_class(track)
        good = cls is not None and cls.max() > cfg.cls_thr
        if last or good or track['unmatched'] < cfg.max_unmatched_clips or track['id'] is not None:
            kept.append(track)
    for track in kept:
        if track['id'] is None:
            track['id'] = num_ids
            num_ids += 1
    classes = {}
    for frame in range(begin, end):
        masks = {track['id']: track_mean(track, frame) for track in kept}
        masks = {key: mask for key, mask in masks.items() if mask is not None}
        result.frames.append(masks)
        result.window_of_frame.append(len(result.windows))
        classes |= {track['id']: track_class(track) for track in kept if track['id'] in masks}
    result.windows.append(classes)

    for track in kept:  # one clip that stands for all before
        frames = sorted({f for c in track['clips'] if c for f in c['masks'] if f >= end})
        masks = {frame: track_mean(track, frame) for frame in frames}
        stand_in = dict(masks=masks, cls=track_class(track), embed=track['memory'])
        track['clips'] = [stand_in if masks else None]
    return kept, num_ids


def track_overlap(clips: Sequence[Clip], starts: Sequence[int], cfg: Settings) -> Result:
    """Tracks a whole video."""
    result, tracks, seen = Result(), [], set()
    begin = num_ids = 0
    for clip, start in zip(clips, starts):
        while start >= begin + cfg.window:
            end = begin + cfg.window
            tracks, num_ids = put_out(tracks, result, begin, end, num_ids, False, cfg)
            begin = end
        dets = detect(clip, cfg)
        pairs, new = assign(tracks, dets, start, seen, cfg)
        add_clip(tracks, dets, start, pairs, new, cfg)
        seen |= set(range(start, start + clip[1].shape[1]))
    put_out(tracks, result, begin, max(seen) + 1, num_ids, True, cfg)
    return result


def window_scores(
    result: Result, masks: list[dict[int, Tensor]], num_classes: int, rate: float = 3.0
) -> Tensor:
    """Scores (M, K) of the video from enlarged masks {id: (H, W)} of each frame."""
    num_tracks = 1 + max((key for classes in result.windows for key in classes), default=-1)
    scores = torch.zeros(num_tracks, num_classes)
    for track in range(num_tracks):
        parts = []
        for window, classes in enumerate(result.windows):
            if track not in classes:
                continue
            own = [
                frame[track].sigmoid()
                for frame, index in zip(masks, result.window_of_frame)
                if index == window and track in frame
            ]
            high = sum(int((mask > 0.75).sum()) for mask in own)
            low = sum(int((mask > 0.5).sum()) for mask in own)
            parts.append(classes[track] * high / max(low, 1))
        filled = sum(bool((frame[track] > 0).any()) for frame in masks if track in frame)
        scores[track] = sum(parts) / len(parts) * (1 - math.exp(-rate * filled / len(masks)))
    return scores
