"""Finds every fault of an annotation file.

What an error is, :class:`~mmboxvis.datasets.video_json.VideoJsonReader` decides, which training
reads with: it is given the annotations in batches, and where it refuses one, the batch is halved
until the entry, the frame and the field are known. Nothing is checked here that it checks already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmboxvis.files import StrPath

from ..json_stream import OnBytes, read_annotation_file, without_gc
from ..video_json import AnnotationError, EmptyBoxes
from .annotations import AnnotationChecker
from .heads import HeadChecker
from .masks import MaskChecker, MaskTotals
from .problems import CheckReport, Problem

_BATCH = 20_000


@without_gc()
def check_dataset(
    path: StrPath,
    *,
    classes: Sequence[str] | None = None,
    uses_masks: bool = False,
    empty_boxes: EmptyBoxes | None = None,
    need_annotations: bool = True,
    mask_totals: MaskTotals | None = None,
    on_bytes: OnBytes | None = None,
) -> CheckReport:
    """Lists all faults of an annotation file in YouTube-VIS or COCO layout.

    The file is streamed; memory is that of its videos, of one id an annotation, and of the
    problems.

    Args:
        path: the file.
        classes: names of the classes to train; a category that has annotations and is
            none of them is an error.
        uses_masks: whether masks are to be used; if not, their faults are warnings.
        empty_boxes: what a box without area is to the data set, an ``'error'`` or that the
            instance is ``'absent'``; by default what the layout's data set does.
        need_annotations: whether a file without annotations is an error.
        mask_totals: reads compressed run-lengths; without it their strings are not looked into.
        on_bytes: told how many bytes have been read; the file is read twice.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    report = CheckReport(str(path))
    try:
        file = read_annotation_file(path, on_bytes=on_bytes)
    except AnnotationError as error:
        report.problems.append(Problem('error', str(error)))
        return report
    report.layout = file.layout
    heads = HeadChecker(file, report.problems)
    heads.check_lists(need_annotations)
    heads.check_categories()
    heads.check_videos()
    checker = AnnotationChecker(
        heads,
        empty_boxes or ('error' if file.layout == 'video' else 'absent'),
        MaskChecker(heads.note, uses_masks, mask_totals),
    )
    start = 0
    for batch in _batches(file.annotations(on_bytes=on_bytes)):
        checker.check(batch, start)
        start += len(batch)
    heads.check_classes(classes, checker.used_categories if file.num_annotations else None)
    checker.check_unused(need_annotations)
    report.counts = dict(
        videos=len(file.videos),
        frames=sum(len(video['file_names']) for video in heads.videos.values()),
        categories=len(file.categories),
        annotations=file.num_annotations,
        objects=checker.num_objects,
    )
    return report


def _batches(annotations: Iterable[Any]) -> Iterator[list[Any]]:
    """Annotations in batches of about as many boxes: an annotation may have one or hundreds."""
    batch: list[Any] = []
    size = 0
    for annotation in annotations:
        boxes = annotation.get('bboxes') if isinstance(annotation, dict) else None
        batch.append(annotation)
        size += max(1, len(boxes)) if isinstance(boxes, list) else 1
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
