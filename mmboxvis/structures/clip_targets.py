"""Ground truth of one training clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmdet.structures import TrackDataSample


def boxes_to_masks(
    boxes: Tensor, size: tuple[int, int], *, released: bool = False, centers: bool = False
) -> Tensor:
    """Fills boxes: a pixel is inside iff ``floor(x1) <= x < ceil(x2)``, the same in y.

    That is every pixel a box touches, so boxes with fractional corners grow by half a pixel on
    each side on average. In frames of 100 pixels this shows in the masks that learn from them.

    Args:
        boxes: (..., 4) xyxy in pixels; boxes without area give empty masks.
        size: (H, W) of the masks.
        released: the released program's rule ``floor(x1) < x <= ceil(x2)``, which lies one pixel
            further right and down (``paper_vs_code`` row 6).
        centers: only pixels whose centre is in the box (``x1 <= x + 0.5 < x2``); where there is
            none in a row or column, those that the box touches.

    Returns:
        (..., H, W) float32, 0 or 1.

    Raises:
        ValueError: for both rules at once.
    """
    if released and centers:
        raise ValueError('boxes are filled by one rule: released or centers, not both')
    height, width = size
    first, end = boxes[..., :2].floor(), boxes[..., 2:].ceil()
    if centers:
        inner_first, inner_end = (boxes[..., :2] - 0.5).ceil(), (boxes[..., 2:] - 0.5).ceil()
        some = inner_end > inner_first
        first, end = inner_first.where(some, first), inner_end.where(some, end)
    (x1, y1), (x2, y2) = first.unbind(-1), end.unbind(-1)
    x = torch.arange(width, device=boxes.device, dtype=boxes.dtype)
    y = torch.arange(height, device=boxes.device, dtype=boxes.dtype)
    if released:
        x, y = x - 1, y - 1
    present = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    columns = (x >= x1[..., None]) & (x < x2[..., None]) & present[..., None]
    rows = (y >= y1[..., None]) & (y < y2[..., None])
    return (rows[..., :, None] & columns[..., None, :]).float()


@dataclass(frozen=True)
class ClipTargets:
    """The N annotated instances of a clip of T frames with padded size (H, W).

    Attributes:
        labels: (N,) int64.
        boxes: (N, T, 4) float32, xyxy divided by the padded size, all zero where absent.
        box_masks: (N, T, H, W) float32, 0 or 1: the filled boxes, zero where absent.
        instance_ids: (N,) int64, the annotation's ids.
        masks: (N, T, H, W) float32, or ``None`` where no mask was loaded.
    """

    labels: Tensor
    boxes: Tensor
    box_masks: Tensor
    instance_ids: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def valid(self) -> Tensor:
        """(N, T) bool: where an instance has a box."""
        return (self.boxes[..., 2] > self.boxes[..., 0]) & (self.boxes[..., 3] > self.boxes[..., 1])

    @classmethod
    def from_data_sample(
        cls,
        sample: TrackDataSample,
        pad_shape: tuple[int, int],
        *,
        device: torch.device | str | None = None,
        released_boxes: bool = False,
        box_centers: bool = False,
    ) -> ClipTargets:
        """Joins the annotations of the frames of one clip by instance id.

        The class of an instance is that of the first frame it is seen in; instances without a
        box of positive area in any frame are dropped (as in the released program).

        Args:
            sample: one clip; each frame's ``gt_instances`` has ``bboxes`` (n, 4) xyxy in pixels,
                ``labels`` (n,), ``instances_ids`` (n,) and optionally ``masks``.
            pad_shape: (H, W) of the batch.
            device: where the targets shall live.
            released_boxes: see :func:`boxes_to_masks`, as for the next.
            box_centers: fills boxes by the centres of pixels.
        """
        frames = [frame.gt_instances for frame in sample.video_data_samples]
        with_masks = all('masks' in frame for frame in frames)
        ids = torch.cat([frame.instances_ids.long() for frame in frames])
        labels = torch.cat([frame.labels.long() for frame in frames])
        frame_of = torch.cat(
            [torch.full((len(frame.labels),), t) for t, frame in enumerate(frames)]
        ).long()
        # mmdet's box classes keep theirs in an attribute
        boxes_px = torch.cat(
            [torch.as_tensor(getattr(frame.bboxes, 'tensor', frame.bboxes)) for frame in frames]
        ).float()
        unique_ids, slot = torch.unique(ids, return_inverse=True)

        num, height, width = len(unique_ids), *pad_shape
        boxes = torch.zeros(num, len(frames), 4)
        boxes[slot, frame_of] = boxes_px
        limits = boxes.new_tensor([width, height, width, height])
        boxes = boxes.clamp(min=0).minimum(limits)
        has_area = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
        if released_boxes:
            # one pixel further on there is nothing left of a box at the edge
            has_area &= (boxes[..., :2].floor() < limits[:2] - 1).all(-1)
        boxes = boxes * has_area[..., None]
        order = torch.arange(len(ids))
        first = order.new_full((num,), len(ids)).scatter_reduce(0, slot, order, 'amin')
        slot_labels = labels[first]

        masks = None
        if with_masks:
            masks = torch.zeros(num, len(frames), height, width)
            offset = 0
            for t, frame in enumerate(frames):
                bitmaps = torch.as_tensor(frame.masks.masks).float()
                where = slot[offset : offset + len(bitmaps)]
                masks[where, t, : bitmaps.shape[-2], : bitmaps.shape[-1]] = bitmaps
                offset += len(bitmaps)

        keep = has_area.any(1)
        boxes = boxes[keep].to(device)
        return cls(
            labels=slot_labels[keep].to(device),
            boxes=boxes / limits.to(boxes.device),
            box_masks=boxes_to_masks(
                boxes, pad_shape, released=released_boxes, centers=box_centers
            ),
            instance_ids=unique_ids[keep].to(device),
            masks=None if masks is None else masks[keep].to(device),
        )

    @classmethod
    def from_data_samples(
        cls,
        samples: Sequence[TrackDataSample],
        pad_shape: tuple[int, int],
        *,
        device: torch.device | str | None = None,
        released_boxes: bool = False,
        box_centers: bool = False,
    ) -> list[ClipTargets]:
        """Targets of each clip of a batch; see :meth:`from_data_sample`."""
        return [
            cls.from_data_sample(
                sample,
                pad_shape,
                device=device,
                released_boxes=released_boxes,
                box_centers=box_centers,
            )
            for sample in samples
        ]
