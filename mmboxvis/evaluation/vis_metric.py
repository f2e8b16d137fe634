"""Metric of video instance segmentation for mmengine's evaluator."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mmdet.structures import TrackDataSample
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmboxvis.files import AnnotationError, origin, require_writable
from mmboxvis.registry import METRICS
from mmboxvis.structures import VideoPrediction

from .functional import GroundTruth, VISEvaluation, read_ground_truth
from .functional.tracks import choose_iou_type, truth_tracks
from .submission import CategoryIds, match_categories, to_results, write_submission
from .tables import format_scores


def _names(video_ids: Sequence[int], truth: GroundTruth, limit: int = 10) -> str:
    shown = [f'{video_id} ({truth.videos[video_id].name})' for video_id in video_ids[:limit]]
    return ', '.join(shown) + (', ...' if len(video_ids) > limit else '')


def _for_all_labels(
    category_ids: CategoryIds, predictions: Sequence[VideoPrediction], other: int
) -> CategoryIds:
    """With the id ``other`` for the labels beyond them."""
    num_labels = 1 + max((int(label) for p in predictions for label in p.labels), default=-1)
    return [*category_ids, *[other] * (num_labels - len(category_ids))]


@METRICS.register_module()
class VISMetric(BaseMetric):
    """Average precision and recall of tracks, as the YouTube-VIS and OVIS benchmarks define them.

    It can be used any number of times in one run. Each data sample carries its whole video's
    tracks in the field ``pred_video``, a :class:`~mmboxvis.structures.VideoPrediction`. Labels
    find their category by the *name* in the data set's ``classes``, never by their order; where a
    name is not found, by the ``category_ids`` of a data set that maps its file's categories to
    other classes, so that a model of BVISD's classes is scored on, or submitted to, another set. A
    video that a distributed sampler repeats counts once.

    What can be wrong with the annotation file, the classes and the output folder is told when the
    metric is built and when it gets the data set's ``dataset_meta``: before anything is predicted.
    In a group of processes the first one reads the file. Results are written before they are
    scored.

    Example:
        >>> val_evaluator = dict(type='VISMetric', ann_file='data/ovis/annotations/valid_sub.json')

    Args:
        ann_file: annotation file in the YouTube-VIS layout.
        format_only: write the submission and compute nothing; needs ``outfile_prefix``.
        outfile_prefix: where to write ``<prefix>.json`` and ``<prefix>.zip``; ``None`` writes
            nothing.
        iou_type: 'segm', 'box' or 'auto': masks where the annotations have some.
        class_agnostic: score all categories as one. Files that are written keep them; labels
            beyond them, of a model of other classes, are written as the category of the least id.
        videos: names of the only videos of the file to score, such as those left out of training.
        per_class: whether the log lists the classes.
        category_ids: for each label the category id, a list of ids (the track counts for each),
            or an empty list (it is dropped), in place of the match by name. Needed to score one
            data set's classes on another's annotations.
        allow_missing: score even though some videos of the file were not predicted.
        collect_device: 'cpu' or 'gpu', used to collect the predictions of all processes.
        prefix: put before the names of the metrics.
        collect_dir: folder for collecting on the CPU.

    Raises:
        ValueError: if ``format_only`` is given without ``outfile_prefix``, or an argument is
            unknown.
        FileNotFoundError: if there is no annotation file.
        AnnotationError: if it is broken, or has nothing to score by; the message says where.
        OSError: if nothing can be written at ``outfile_prefix``.
    """

    default_prefix = None

    def __init__(
        self,
        ann_file: str,
        *,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        iou_type: Literal['segm', 'box', 'auto'] = 'auto',
        class_agnostic: bool = False,
        videos: Sequence[str] | None = None,
        per_class: bool = True,
        category_ids: CategoryIds | None = None,
        allow_missing: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if format_only and not outfile_prefix:
            raise ValueError('format_only=True writes a file: give outfile_prefix, its path')
        if iou_type not in ('segm', 'box', 'auto'):
            raise ValueError(f"iou_type must be 'segm', 'box' or 'auto', got {iou_type!r}")
        if not Path(ann_file).is_file():
            raise FileNotFoundError(
                f'{ann_file}: no such annotation file (ann_file of VISMetric){origin(ann_file)}'
            )
        self.ann_file = ann_file
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.iou_type: Literal['segm', 'box', 'auto'] = iou_type
        self.class_agnostic = class_agnostic
        self.videos = videos
        self.per_class = per_class
        self.category_ids = category_ids
        self.allow_missing = allow_missing
        self._truth: GroundTruth | None = None
        self._category_ids: CategoryIds | None = None
        if is_main_process():  # it alone scores and writes
            self._truth = self._read_truth()
            if outfile_prefix:
                require_writable(f'{outfile_prefix}.json')
                require_writable(f'{outfile_prefix}.zip')

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """Meta information of the data set.

        Raises:
            AnnotationError: when set, if a class has no category in the annotation file.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict[str, Any] | None) -> None:
        self._dataset_meta = dataset_meta
        self._category_ids = None
        # of a data set of unlike parts it is a list, of which an evaluator of parts picks one
        if self._truth is not None and isinstance(dataset_meta, Mapping):
            # told now rather than after the videos were predicted
            self._category_ids = self._category_ids_of_labels(self._truth)

    def require_videos(self, videos: Iterable[Mapping[str, Any]]) -> None:
        """Checks that the videos to be predicted are those of the annotation file.

        Args:
            videos: with ``id``, ``height``, ``width`` and ``file_names``, as a
                :class:`~mmboxvis.datasets.BoxVideo` describes them.

        Raises:
            AnnotationError: if the file lacks one, has others as well, unless
                ``allow_missing``, or has one of another size or length.
        """
        truth = self._truth
        if truth is None:
            return
        given = {int(video['id']): video for video in videos}
        self._check_videos(given, truth)
        for key, video in given.items():
            known = truth.videos[key]
            found = ((int(video['height']), int(video['width'])), len(video['file_names']))
            if found != (known.size, known.num_frames):
                raise AnnotationError(
                    f'{truth.source}: video {key} ({known.name}) has {known.num_frames} frames of '
                    f'{list(known.size)} (height, width) there, {found[1]} of {list(found[0])} in '
                    'the data set; give both the same annotation file'
                )

    def fits_labels(self, num_labels: int, classes: Sequence[str]) -> bool:
        """Whether each label of a model stands for a category.

        Args:
            num_labels: how many labels the model has.
            classes: of the data set.
        """
        if self.class_agnostic:
            return True
        return len(classes if self.category_ids is None else self.category_ids) == num_labels

    def _read_truth(self) -> GroundTruth:
        try:
            truth = read_ground_truth(self.ann_file)
            truth = truth if self.videos is None else truth.only(self.videos)
            if not self.format_only:
                # looks at every annotation
                truth_tracks(truth, choose_iou_type(truth, self.iou_type))
        except ValueError as error:
            raise AnnotationError(str(error)) from error
        return truth

    def process(
        self, data_batch: Any, data_samples: Sequence[Mapping[str, Any] | TrackDataSample]
    ) -> None:
        """Keeps the predictions of a batch of videos.

        Args:
            data_batch: not used.
            data_samples: data samples, or their dicts, with the field ``pred_video``.

        Raises:
            TypeError: if the field is missing or of another type.
        """
        for sample in data_samples:
            prediction = sample.get('pred_video')
            if not isinstance(prediction, VideoPrediction):
                raise TypeError(
                    "VISMetric needs a VideoPrediction in the field 'pred_video' of each data "
                    f'sample, got {type(prediction).__name__}; fields: {sorted(sample.keys())}'
                )
            self.results.append(prediction)

    def evaluate(self, size: int) -> dict[str, float]:
        """Collects the predictions of all processes and scores them.

        Args:
            size: not used. It is meant for cutting off what a distributed sampler appended, but
                that need not lie at the end; repeated videos are told by their id.
        """
        try:
            return super().evaluate(sys.maxsize)
        finally:
            # a failed evaluation must not leak into the next one
            self.results.clear()

    def compute_metrics(self, results: list[VideoPrediction]) -> dict[str, float]:
        """Scores the predictions, and writes them if asked to.

        Args:
            results: one prediction a video, possibly repeated.

        Returns:
            The metrics of :func:`~mmboxvis.evaluation.functional.evaluate_vis`, or nothing with
            ``format_only``.

        Raises:
            AnnotationError: if a video is missing or unknown, or a class has no category.
            ValueError: if a prediction does not fit its video.
        """
        if self._truth is None:
            self._truth = self._read_truth()
        truth = self._truth
        if self._category_ids is None:
            self._category_ids = self._category_ids_of_labels(truth)
        predictions: dict[int, VideoPrediction] = {}
        for prediction in results:
            predictions.setdefault(prediction.video_id, prediction)
        known = [predictions[video_id] for video_id in truth.videos if video_id in predictions]
        category_ids = self._category_ids
        if self.class_agnostic:
            category_ids = _for_all_labels(category_ids, known, min(truth.categories, default=1))
        entries = to_results(known, category_ids)
        if self.outfile_prefix:
            paths = write_submission(entries, self.outfile_prefix, truth)
            print_log(f'Wrote {paths[0]} and {paths[1]}', logger='current')
        self._check_videos(predictions, truth)
        if self.format_only:
            return {}
        evaluation = VISEvaluation.run(
            truth, entries, iou_type=self.iou_type, class_agnostic=self.class_agnostic
        )
        print_log('\n' + format_scores(evaluation, per_class=self.per_class), logger='current')
        return dict(evaluation.metrics)

    def _check_videos(self, predictions: Mapping[int, Any], truth: GroundTruth) -> None:
        unknown = sorted(predictions.keys() - truth.videos.keys())
        if unknown:
            raise AnnotationError(
                f'{truth.source}: predictions for videos it does not have: {unknown}'
            )
        missing = [video_id for video_id in truth.videos if video_id not in predictions]
        # nothing at all scores zero, as mmengine has warned by now
        if not missing or not predictions:
            return
        message = (
            f'{truth.source}: {len(missing)} of {len(truth.videos)} videos were not predicted: '
            f'{_names(missing, truth)}'
        )
        if not self.allow_missing:
            raise AnnotationError(f'{message}; allow_missing=True scores the rest')
        print_log(message, logger='current', level=logging.WARNING)

    def _category_ids_of_labels(self, truth: GroundTruth) -> CategoryIds:
        if self.category_ids is not None:
            return self.category_ids
        classes = (self.dataset_meta or {}).get('classes')
        if not classes:
            raise ValueError(
                "VISMetric has no names for the labels: set 'classes' in the data set's metainfo "
                'or give category_ids'
            )
        category_ids: CategoryIds
        try:
            category_ids = match_categories(classes, truth.categories)
        except ValueError as error:
            mapped = self._mapped_categories(classes, truth)
            if mapped is None:
                raise AnnotationError(f'{truth.source}: {error}') from error
            category_ids = mapped
        used = {
            key for ids in category_ids for key in (ids if isinstance(ids, Sequence) else [ids])
        }
        idle = [name for key, name in truth.categories.items() if key not in used]
        if idle:
            print_log(
                f'{truth.source}: no class is called {idle}, their annotations cannot be found',
                logger='current',
                level=logging.WARNING,
            )
        return category_ids

    def _mapped_categories(self, classes: Sequence[str], truth: GroundTruth) -> CategoryIds | None:
        """The ids a data set has mapped to its classes, if they are categories of this file.

        Another file may use the same ids for other categories, so the names have to be the same.
        """
        meta = self.dataset_meta or {}
        mapped, names = meta.get('category_ids') or (), meta.get('category_names') or {}
        known = {key for ids in mapped for key in ids}
        same = all(key in names and truth.categories.get(key) == names[key] for key in known)
        if not known or not same or len(mapped) != len(classes):
            return None
        return mapped
