"""Masks that cannot be decoded, and frames with a mask or a box only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmboxvis.run_lengths import check_mask

from .problems import Level

MaskTotals = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]
"""Adds up compressed run-lengths: which of S strings can be read, and the pixels of each."""


@dataclass
class MaskChecker:
    """Looks into the masks of annotations.

    Attributes:
        note: adds a problem: level, what, and where as names.
        needed: whether masks are to be used; if not, their faults are warnings.
        totals: reads compressed run-lengths; without it their strings are not looked into.
    """

    note: Callable[..., None]
    needed: bool
    totals: MaskTotals | None = None
    _strings: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list, init=False)

    @property
    def _level(self) -> Level:
        return 'error' if self.needed else 'warning'

    def add(self, annotation: Mapping[str, Any], video: Mapping[str, Any]) -> None:
        """Notes the faults of an annotation's masks, those of run-length strings only later."""
        masks = annotation.get('segmentations')
        if masks is None and not self.needed:
            return
        where = dict(
            annotation=annotation.get('id'), field='segmentations', video=video['id'],
            name=video['name'],
        )  # fmt: skip
        length = len(video['file_names'])
        if not isinstance(masks, list) or len(masks) != length:
            got = f'{len(masks)} entries' if isinstance(masks, list) else repr(masks)[:60]
            self.note(self._level, f'expected a list of {length} frames, got {got}', **where)
            return
        size = [video['height'], video['width']]
        for frame, mask in enumerate(masks):
            what = _mask_fault(mask, None if None in size else size)
            if what is not None:
                self.note(self._level, what, frame=frame, **where)
            elif isinstance(mask, dict) and isinstance(mask['counts'], str):
                entry = (mask['counts'], math.prod(mask['size']), dict(where, frame=frame))
                self._strings.append(entry)
        self._compare(annotation.get('bboxes'), masks, where)

    def finish(self) -> None:
        """Notes the faults of the strings of the annotations added so far, all at once."""
        strings, self._strings = self._strings, []
        if self.totals is None or not strings:
            return
        intact, pixels = self.totals([text for text, _, _ in strings])
        for (_, expected, where), whole, total in zip(strings, intact, pixels, strict=True):
            if not whole:
                self.note(self._level, "'counts' is broken or cut off", **where)
            elif total != expected:
                self.note(self._level, f"'counts' covers {total} of {expected} pixels", **where)

    def _compare(self, boxes: Any, masks: Sequence[Any], where: Mapping[str, Any]) -> None:
        if not isinstance(boxes, list) or len(boxes) != len(masks):
            return
        for frame, (box, mask) in enumerate(zip(boxes, masks, strict=True)):
            if (box is None) != (mask is None):
                what = 'has a mask but no box' if box is None else 'has a box but no mask'
                self.note('warning', what, frame=frame, **dict(where, field='bboxes'))


def _mask_fault(mask: Any, size: list[int] | None) -> str | None:
    """What is wrong with one frame's mask, its string aside; ``size`` is (height, width)."""
    if mask is None:
        return None
    try:
        check_mask(mask)
    except ValueError as error:
        return str(error)
    if isinstance(mask, list):
        return None if mask else 'a polygon needs x, y of at least three corners, got no polygon'
    if size is not None and mask['size'] != size:
        return f'mask of size {mask["size"]}, but the video has (height, width) {size}'
    return None
