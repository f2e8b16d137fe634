"""What the transforms share: boxes of masks, clipping, and dropping instances."""

from __future__ import annotations

from typing import Any

import numpy as np

INSTANCE_KEYS = ('gt_ids', 'gt_labels', 'gt_bboxes', 'gt_valid', 'gt_masks')


def boxes_from_masks(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tight boxes; the far side is the last pixel + 1.

    Args:
        masks: (..., H, W), non-zero inside.

    Returns:
        Boxes (..., 4) float32 xyxy, zero where a mask is empty, and (...) bool: where it is not.
    """
    height, width = masks.shape[-2:]
    rows, columns = (masks != 0).any(-1), (masks != 0).any(-2)
    sides = [
        columns.argmax(-1),
        rows.argmax(-1),
        width - columns[..., ::-1].argmax(-1),
        height - rows[..., ::-1].argmax(-1),
    ]
    valid = rows.any(-1)
    return (np.stack(sides, -1) * valid[..., None]).astype(np.float32), valid


def clip_boxes(
    boxes: np.ndarray, valid: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts boxes to the frame; those without area left become absent.

    Args:
        boxes: (N, T, 4) xyxy.
        valid: (N, T) bool.
        size: (H, W) of the frame.

    Returns:
        Boxes (N, T, 4) float32, zero where absent, and their validity (N, T).
    """
    height, width = size
    cut = boxes.clip(0, np.array([width, height, width, height])).astype(np.float32)
    valid = valid & (cut[..., 2] > cut[..., 0]) & (cut[..., 3] > cut[..., 1])
    return cut * valid[..., None], valid


def keep_instances(results: dict[str, Any], keep: np.ndarray) -> dict[str, Any]:
    """The clip dict with only the instances of ``keep`` (N,), ids attached."""
    return dict(results, **{key: results[key][keep] for key in INSTANCE_KEYS if key in results})


def replace_geometry(
    results: dict[str, Any],
    imgs: list[np.ndarray],
    boxes: np.ndarray | None,
    masks: np.ndarray | None,
) -> dict[str, Any]:
    """A new clip dict with transformed frames, boxes and masks.

    Boxes are clipped to the new frame, and instances seen in no frame any more are dropped.

    Args:
        results: the clip dict before.
        imgs: T new frames.
        boxes: (N, T, 4), or ``None`` where the clip has no annotations.
        masks: (N, T, H, W), or ``None`` where it has no masks.
    """
    changed = dict(results, imgs=imgs)
    if boxes is None:
        return changed
    height, width = imgs[0].shape[:2]
    cut, valid = clip_boxes(boxes, results['gt_valid'], (height, width))
    changed.update(gt_bboxes=cut, gt_valid=valid)
    if masks is not None:
        # a frame whose box is gone has no mask either
        if masks[~valid].any():
            masks = masks * valid[..., None, None].astype(masks.dtype)
        changed['gt_masks'] = masks
    return keep_instances(changed, np.any(valid, axis=1))
