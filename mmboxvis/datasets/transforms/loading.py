"""Frames and annotations of a clip into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmboxvis.registry import TRANSFORMS
from mmboxvis.run_lengths import decode

from ..video_frames import FrameError, read_frame
from ..video_json import AnnotationError
from .instances import boxes_from_masks, keep_instances


@TRANSFORMS.register_module()
class LoadClipFrames(BaseTransform):
    """Decodes the frames of a clip, each file once.

    Adds ``imgs``, ``ori_shape``, the (H, W) of the files, and ``reduction``.

    Args:
        min_short_edge: lets JPEG files be decoded at a half, a quarter or an eighth of their size,
            the smallest whose short edge is at least this many pixels. Set it to the largest
            short edge that follows in the pipeline; ``None`` decodes them whole. Saves most of the
            time on videos of 1080p, but pixels are not exactly those of the whole picture.

    Raises:
        FrameError: if a frame is missing, unreadable, or of another size than the annotation
            file or the other frames say.
    """

    def __init__(self, min_short_edge: int | None = None) -> None:
        if min_short_edge is not None and min_short_edge < 1:
            raise ValueError(f'min_short_edge must be positive, got {min_short_edge}')
        self.min_short_edge = min_short_edge

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the frames; see the class."""
        name, decoded = results['video_name'], {}
        expected = results.get('frame_size')
        reduction = self._reduction(results['img_paths'], expected)
        for path, frame in zip(results['img_paths'], results['frame_ids'], strict=True):
            if path in decoded:
                continue
            image = read_frame(path, video=name, frame=frame, reduction=reduction)
            decoded[path] = image
            expected = tuple(expected or image.shape[:2])
            if image.shape[:2] != tuple(-(-side // reduction) for side in expected):
                shape = read_frame(path).shape
                raise FrameError(
                    f'video {name!r}, frame {frame}: {path} is {shape[0]}x{shape[1]}, '
                    f'expected {expected[0]}x{expected[1]} (height x width) from the annotation '
                    'file or the other frames; resize the frames or correct height and width '
                    '(an EXIF orientation in the image swaps them)'
                )
        imgs = [decoded[path] for path in results['img_paths']]
        return dict(results, imgs=imgs, ori_shape=expected, reduction=reduction)

    def _reduction(self, paths: Sequence[str], size: tuple[int, int] | None) -> int:
        """The largest allowed divisor of the sides; only JPEG gets cheaper by it."""
        if self.min_short_edge is None or size is None:
            return 1
        if not all(path.lower().endswith(('.jpg', '.jpeg')) for path in paths):
            return 1
        fits = (n for n in (8, 4, 2) if min(size) >= n * self.min_short_edge)
        return next(fits, 1)


@TRANSFORMS.register_module()
class LoadClipAnnotations(BaseTransform):
    """Cuts the instances of the video to the frames of the clip.

    Instances seen in none of these frames are dropped. Masks are decoded only where the data set
    asks for them (``load_masks`` or ``box_source='mask'``); with ``box_source='mask'`` boxes are
    those of the masks. N x T x H x W bytes are needed for masks, nothing else is large.

    Raises:
        AnnotationError: if a mask cannot be decoded.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds ``gt_*``; see the class."""
        instances, frames = results['instances'], np.asarray(results['frame_ids'])
        seen = instances.valid[:, frames].any(1)
        loaded = dict(
            results,
            gt_ids=instances.ids[seen],
            gt_labels=instances.labels[seen],
            gt_bboxes=instances.boxes[seen][:, frames] / results.get('reduction', 1),
            gt_valid=instances.valid[seen][:, frames],
        )
        del loaded['instances']
        from_masks = results['box_source'] == 'mask'
        if not (results['load_masks'] or from_masks):
            return loaded
        masks = self._decode(results, np.flatnonzero(seen), frames)
        loaded['gt_masks'] = masks
        if not from_masks:
            return loaded
        boxes, valid = boxes_from_masks(masks)
        return keep_instances(dict(loaded, gt_bboxes=boxes, gt_valid=valid), np.any(valid, axis=1))

    def _decode(self, results: dict[str, Any], rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        height, width = results['ori_shape']
        reduction = results.get('reduction', 1)
        instances = results['instances']
        shape = (len(rows), len(frames), *results['imgs'][0].shape[:2])
        masks = np.zeros(shape, np.uint8)
        for slot, row in enumerate(rows):
            for t, frame in enumerate(frames):
                entry = instances.segmentations[row][frame]
                if entry is None:
                    continue
                try:
                    masks[slot, t] = _reduced(decode_mask(entry, (height, width)), reduction)
                except ValueError as error:
                    raise AnnotationError(
                        f'video {results["video_name"]!r}, annotation {instances.ids[row]}, frame '
                        f'{frame}, field segmentations: not a run-length or polygon list of a '
                        f'{height}x{width} frame: {error}'
                    ) from error
        return masks


def _reduced(mask: np.ndarray, reduction: int) -> np.ndarray:
    """The pixels at the middle of squares of ``reduction``, the last of which may be cut."""
    if reduction == 1:
        return mask
    rows, columns = (
        np.minimum(np.arange(0, side, reduction) + reduction // 2, side - 1) for side in mask.shape
    )
    return mask[rows[:, None], columns]


def decode_mask(entry: dict[str, Any] | list[Any], size: tuple[int, int]) -> np.ndarray:
    """A COCO run-length (compressed or not) or list of polygons to (H, W) uint8.

    Raises:
        ValueError: if a polygon has fewer than three corners, or the runs do not fill the frame.
    """
    mask = decode(entry, size)
    if mask is None:
        raise ValueError('a polygon needs x, y of at least three corners')
    if mask.shape != tuple(size):
        raise ValueError(f'a mask of {mask.shape[0]}x{mask.shape[1]}')
    return mask
