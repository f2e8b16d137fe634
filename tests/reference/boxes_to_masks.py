"""Masks for boxes, slow and plain: every clip whole, every object on its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.models.task_modules import BoxSupervisedAssigner
from mmboxvis.models.task_modules.refinement import Refinement
from mmboxvis.models.vis import BaseVIS


def masks_in_boxes(
    model: BaseVIS,
    frames_rgb: Tensor,
    labels: list[int],
    boxes: list[list[list[float] | None]],
    clip_length: int = 3,
    refinements: Sequence[Refinement] = (),
) -> tuple[dict[tuple[int, int], Tensor], dict[tuple[int, int], float]]:
    """Masks and confidences by (object, frame), of frames whose size the network takes as it is.

    Args:
        model: in eval mode.
        frames_rgb: (V, 3, H, W), H and W multiples of 32.
        labels: class of each object.
        boxes: for each object and frame xyxy in pixels, or ``None``.
        clip_length: T; clips begin at every frame.
        refinements: of the averaged masks, one after another.
    """
    num_frames, _, height, width = frames_rgb.shape
    logits: dict[tuple[int, int], list[Tensor]] = {}
    probs: dict[tuple[int, int], list[float]] = {}
    for start in range(max(num_frames - clip_length, 0) + 1):
        frames = [min(start + t, num_frames - 1) for t in range(clip_length)]
        seen = [i for i in range(len(labels)) if any(boxes[i][t] for t in frames)]
        if not seen:
            continue
        filled = torch.stack(
            [torch.stack([fill(boxes[i][t], height, width) for t in frames]) for i in seen]
        )
        clip = model.predict_clip(frames_rgb[frames])[-1]
        queries, gts = BoxSupervisedAssigner().assign_boxes(
            clip.cls_logits[None],
            clip.mask_logits[None],
            torch.tensor([labels[i] for i in seen]),
            filled,
        )[0]
        for query, gt in zip(queries.tolist(), gts.tolist(), strict=True):
            i = seen[gt]
            for t in range(clip_length):
                if start + t < num_frames:
                    logits.setdefault((i, start + t), []).append(clip.mask_logits[query, t])
                    prob = clip.cls_logits[query].softmax(0)[labels[i]]
                    probs.setdefault((i, start + t), []).append(float(prob))
    masks, confidences = {}, {}
    for (i, t), found in logits.items():
        box = boxes[i][t]
        if box is None:
            continue
        mean = torch.stack(found).mean(0)
        large = F.interpolate(mean[None, None], (height, width), mode='bilinear')[0, 0]
        filled = fill(box, height, width)
        masks[i, t] = (large > 0) & filled.bool()
        if refinements:
            lab, logit = rgb_to_lab(frames_rgb[t])[None], large[None, None]
            for refinement in refinements:
                refined = refinement(logit, lab, filled[None, None])
                logit = refined.clamp(1e-6, 1 - 1e-6).logit()
            at_full_size = F.interpolate(refined, (height, width), mode='bilinear')[0, 0]
            masks[i, t] = (at_full_size > 0.5) & filled.bool()
        scores = [dice(large.sigmoid().amax(axis), filled.amax(axis)) for axis in (0, 1)]
        confidences[i, t] = sum(probs[i, t]) / len(found) * sum(scores) / 2
    return masks, confidences


def fill(box: list[float] | None, height: int, width: int) -> Tensor:
    """(H, W) box of whole-numbered corners."""
    mask = torch.zeros(height, width)
    if box is not None:
        x1, y1, x2, y2 = map(int, box)
        mask[y1:y2, x1:x2] = 1
    return mask


def dice(one: Tensor, other: Tensor) -> float:
    """Dice similarity with squares below."""
    return float(2 * (one * other).sum() / (one.square().sum() + other.square().sum()))
