"""Masks for boxes that somebody has drawn already.

Shorthand: N annotated objects of a video of V frames, T frames of a clip, Q queries, K classes,
(h, w) the stride-4 grid of the padded input.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as mask_utils
from torch import Tensor

from mmboxvis.datasets.categories import match_categories
from mmboxvis.datasets.image_size import image_size
from mmboxvis.datasets.video_frames import VideoFrames
from mmboxvis.datasets.video_json import (
    AnnotationError,
    VideoInstances,
    VideoJsonReader,
    read_json,
)
from mmboxvis.evaluation.functional.layout import (
    VideoInfo,
    frame_list_problem,
    is_int,
    mask_problem,
    mask_string_problems,
)
from mmboxvis.evaluation.functional.rle import compress
from mmboxvis.files import OutsideError, StrPath, path_below
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.models.task_modules import BoxSupervisedAssigner, PseudoMaskGenerator
from mmboxvis.models.task_modules.pseudo_mask_generator import projection_score
from mmboxvis.models.task_modules.refinement import Refinement, refine_masks
from mmboxvis.models.vis import VideoPredictor
from mmboxvis.models.vis.track_masks import encode_masks
from mmboxvis.models.vis.video_predictor import PredictedClip
from mmboxvis.structures import ClipPredictions
from mmboxvis.structures.clip_targets import boxes_to_masks
from mmboxvis.structures.video_prediction import RLE

from .read_ahead import ReadAhead
from .video_segmenter import VideoSegmenter


@dataclass(frozen=True)
class ObjectMasks:
    """Masks of the N annotated objects of a video.

    Attributes:
        video_id: id of the video.
        annotation_ids: (N,) int64.
        segmentations: N lists of V compressed RLEs, ``None`` where the object has no box or
            nothing was found in it.
        confidences: (N, V) float64 in [0, 1], nan where the object has no box.
    """

    video_id: int
    annotation_ids: np.ndarray
    segmentations: list[list[RLE | None]]
    confidences: np.ndarray


@dataclass
class _LiveFrame:
    """Sums over the clips that have seen a frame so far.

    Attributes:
        logits: (N, h, w) sum of the mask logits of the matched queries.
        probs: (N,) sum of their probabilities of the annotated class.
        counts: (N,) number of clips in which the object had a query.
    """

    logits: Tensor
    probs: Tensor
    counts: Tensor


class BoxesToMasks:
    """Finds the mask of each annotated object with a trained network.

    Clip by clip the queries are matched to the boxes as a teacher's are in training
    (:meth:`BoxSupervisedAssigner.assign_boxes`). The logits of an object's queries are averaged
    over the clips that cover a frame, enlarged, and cut to its box. The confidence of a mask is
    that of a pseudo mask, taken for one frame: probability of the annotated class, averaged over
    the clips, times how well the uncut mask projects on the box (paper section 3.1, *Pseudo mask
    supervision loss*).

    Args:
        segmenter: gives network, device, pipeline of frames, and classes. ``test_cfg`` of the
            model gives length and stride of the clips.
        class_agnostic: matches by boxes and by whether a query holds any object at all; for
            classes that the network does not know.
        category_map: category name in the file to class of the network, see
            :class:`~mmboxvis.datasets.BoxVideo`.
        refinements: draw the averaged masks to the colours of the frame, one after another, before
            they are cut (beyond the paper); confidences are those of the masks before it.
    """

    def __init__(
        self,
        segmenter: VideoSegmenter,
        *,
        class_agnostic: bool = False,
        category_map: Mapping[str, str | None] | None = None,
        refinements: Sequence[Refinement] = (),
    ) -> None:
        self.segmenter = segmenter
        self.class_agnostic = class_agnostic
        self.refinements = tuple(refinements)
        self.category_map = dict(category_map or {})
        self._predictor = VideoPredictor(segmenter.model, **segmenter.model.test_cfg)
        generator = getattr(segmenter.model, 'pseudo_mask_generator', None)
        self._assigner: BoxSupervisedAssigner = (generator or PseudoMaskGenerator()).assigner

    def read(self, ann_file: str | Path, image_root: StrPath) -> BoxAnnotations:
        """Reads and checks an annotation file in YouTube-VIS layout; masks in it are not read.

        Raises:
            AnnotationError: if it is broken, or a frame is missing or outside ``image_root``.
            FileNotFoundError: if it is missing.
            ValueError: if a category that has annotations is none of the network's classes.
        """
        content = read_json(ann_file)
        reader = VideoJsonReader(str(ann_file), content, empty_boxes='absent')
        categories = reader.categories()
        if self.class_agnostic:
            label_of: dict[int, int | None] = dict.fromkeys(categories, 0)
        else:
            label_of = match_categories(
                categories,
                self.segmenter.classes,
                category_map=self.category_map,
                unknown='error',
                where=str(ann_file),
                used=reader.used_categories(),
                advice='match by boxes alone with --class-agnostic (from Python '
                'class_agnostic=True, or name them in category_map)',
            )
        videos = [_with_size(video, image_root, str(ann_file)) for video in reader.videos()]
        return BoxAnnotations(content, Path(image_root), videos, reader.instances(videos, label_of))

    def annotate(self, annotations: BoxAnnotations) -> Iterator[ObjectMasks]:
        """Finds the masks of one video after another."""
        for video in annotations.videos:
            instances = annotations.instances[video['id']]
            frames = VideoFrames(
                [annotations.image_root / name for name in video['file_names']],
                self.segmenter.transforms,
                name=video['name'],
                ori_shape=(video['height'], video['width']),
            )
            boxes = torch.from_numpy(instances.boxes)
            labels = torch.from_numpy(instances.labels)
            segmentations, confidences = self.video(frames, labels, boxes)
            yield ObjectMasks(video['id'], instances.ids, segmentations, confidences)

    @torch.no_grad()
    def video(
        self, frames: VideoFrames, labels: Tensor, boxes: Tensor
    ) -> tuple[list[list[RLE | None]], np.ndarray]:
        """Finds the masks of one video; a few frames are in memory at a time.

        Args:
            frames: as the network takes them, with ``ori_shape`` (H, W) as they are.
            labels: (N,) int64 of the network's classes, 0 for all if class-agnostic.
            boxes: (N, V, 4) xyxy in pixels of (H, W), all zero where absent.

        Returns:
            ``segmentations`` and ``confidences`` of :class:`ObjectMasks`.
        """
        present = _present(boxes).numpy()
        confidences = np.where(present, 0.0, np.nan)
        segmentations: list[list[RLE | None]] = [[None] * len(frames) for _ in labels]
        if not present.any():
            return segmentations, confidences
        device = self.segmenter.device
        labels, boxes = labels.to(device), boxes.to(device)
        live: deque[_LiveFrame] = deque()
        waiting: deque[np.ndarray] = deque()
        first = 0

        def remember(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            for image in images:
                waiting.append(image)
                yield image

        def settle(end: int) -> None:
            nonlocal first
            while first < min(end, len(frames)):
                rows, rles, scores = self._finish(
                    live.popleft(), waiting.popleft(), boxes[:, first], frames.ori_shape
                )
                for row, rle, score in zip(rows, rles, scores, strict=True):
                    confidences[row, first] = score if rle is not None else 0.0
                    segmentations[row][first] = rle
                first += 1

        with closing(ReadAhead(iter(frames), self.segmenter.read_ahead)) as images:
            for clip in self._predictor.clips(remember(images)):
                settle(clip.start)
                self._add_clip(live, clip, labels, boxes, frames.ori_shape)
        settle(len(frames))
        return segmentations, confidences

    def _add_clip(
        self,
        live: deque[_LiveFrame],
        clip: PredictedClip,
        labels: Tensor,
        boxes: Tensor,
        ori_shape: tuple[int, int],
    ) -> None:
        """Matches a clip, whose first frame is the first live one, and adds what was found."""
        prediction, num_frames = clip.prediction, clip.prediction.mask_logits.shape[1]
        # frames past the end repeat the last one of a video shorter than a clip
        last = boxes.shape[1] - 1
        in_clip = boxes[:, [min(clip.start + t, last) for t in range(num_frames)]]
        rows = _present(in_clip).any(1).nonzero().flatten()
        cls_logits = self._class_logits(prediction)
        size = clip.position.size
        padded = self.segmenter.model.data_preprocessor.padded_size(*size)
        box_masks = boxes_to_masks(_scaled(in_clip[rows], ori_shape, size), padded)
        queries, gts = self._assigner.assign_boxes(
            cls_logits[None], prediction.mask_logits[None], labels[rows], box_masks
        )[0]
        found = rows[gts]
        probs = cls_logits.float().softmax(-1)[queries, labels[found]]
        logits = prediction.mask_logits[queries].float()
        for t in range(min(num_frames, last + 1 - clip.start)):
            if t == len(live):
                live.append(
                    _LiveFrame(
                        logits.new_zeros(len(labels), *logits.shape[2:]),
                        probs.new_zeros(len(labels)),
                        probs.new_zeros(len(labels)),
                    )
                )
            sums = live[t]
            live[t] = _LiveFrame(
                sums.logits.index_add(0, found, logits[:, t]),
                sums.probs.index_add(0, found, probs),
                sums.counts.index_add(0, found, torch.ones_like(probs)),
            )

    def _class_logits(self, prediction: ClipPredictions) -> Tensor:
        """(Q, K+1), or object and no object (Q, 2) if class-agnostic."""
        logits = prediction.cls_logits
        if not self.class_agnostic:
            return logits
        return torch.stack([logits[:, :-1].float().logsumexp(1), logits[:, -1].float()], 1)

    def _finish(
        self, frame: _LiveFrame, image: np.ndarray, boxes: Tensor, ori_shape: tuple[int, int]
    ) -> tuple[list[int], list[RLE | None], list[float]]:
        """Masks of a frame with boxes (N, 4): objects with box and query, RLEs, confidences."""
        size = (image.shape[0], image.shape[1])
        rows = ((frame.counts > 0) & _present(boxes)).nonzero().flatten()
        if not len(rows):
            return [], [], []
        counts, boxes = frame.counts[rows], boxes[rows]
        mean = frame.logits[rows] / counts[:, None, None]
        logits = self._predictor.enlarge(mean, size)
        box_masks = boxes_to_masks(_scaled(boxes, ori_shape, size), size)
        projection = projection_score(logits.sigmoid()[:, None], box_masks[:, None])
        confidences = frame.probs[rows] / counts * projection
        final, threshold = logits, 0.0
        if self.refinements:
            preprocessor = self.segmenter.model.data_preprocessor
            rgb = preprocessor.to_rgb(torch.from_numpy(image).to(boxes.device).permute(2, 0, 1))
            lab = rgb_to_lab(rgb)[None]
            masks = refine_masks(self.refinements, logits[:, None], lab, box_masks[:, None])
            final = masks.squeeze(1)
            threshold = 0.5
        final = F.interpolate(final[None], ori_shape, mode='bilinear', align_corners=False)[0]
        rles = encode_masks((final > threshold) & boxes_to_masks(boxes, ori_shape).bool())
        drawn = [rle if mask_utils.area(rle) else None for rle in rles]
        return rows.tolist(), drawn, confidences.tolist()


@dataclass(frozen=True)
class BoxAnnotations:
    """A checked annotation file.

    Attributes:
        content: the json as it was read.
        image_root: folder of the frames.
        videos: entries with ``id``, ``name``, ``file_names``, ``height``, ``width``.
        instances: by video id.
    """

    content: Mapping[str, Any]
    image_root: Path
    videos: Sequence[Mapping[str, Any]]
    instances: Mapping[int, VideoInstances]

    def with_masks(self, found: Iterable[ObjectMasks]) -> dict[str, Any]:
        """The json with masks.

        Each annotation gets ``segmentations`` and ``areas``, ``confidences`` (``null`` where
        there is no box) and ``score``, the mean confidence. Annotations that were left out
        (crowds, dropped classes) have no mask in any frame.
        """
        by_id = {
            (masks.video_id, int(key)): (masks.segmentations[row], masks.confidences[row])
            for masks in found
            for row, key in enumerate(masks.annotation_ids)
        }
        lengths = {video['id']: len(video['file_names']) for video in self.videos}
        sizes = {video['id']: video for video in self.videos}
        annotations = []
        for old in self.content['annotations']:
            length = lengths[old['video_id']]
            segmentations, confidences = by_id.get(
                (old['video_id'], old['id']), ([None] * length, np.full(length, np.nan))
            )
            seen = confidences[~np.isnan(confidences)]
            annotations.append(
                dict(
                    old,
                    segmentations=segmentations,
                    areas=[
                        None if rle is None else int(mask_utils.area(rle)) for rle in segmentations
                    ],
                    confidences=[None if np.isnan(c) else round(float(c), 4) for c in confidences],
                    score=round(float(seen.mean()), 4) if len(seen) else 0.0,
                )
            )
        videos = [
            dict(
                old,
                height=sizes[old['id']]['height'],
                width=sizes[old['id']]['width'],
                length=lengths[old['id']],
            )
            for old in self.content['videos']
        ]
        return dict(copy.copy(dict(self.content)), videos=videos, annotations=annotations)


@dataclass(frozen=True)
class MaskScores:
    """How well masks agree with true ones, over all objects and frames with a true mask.

    Attributes:
        count: number of pairs of object and frame.
        mean_iou: mean over them.
        above_50: share with an IoU above 0.5.
        above_70: share with an IoU above 0.7.
        box_mean_iou: mean IoU that the filled boxes have.
        by_annotation: mean IoU by annotation id.
    """

    count: int
    mean_iou: float
    above_50: float
    above_70: float
    box_mean_iou: float
    by_annotation: dict[int, float] = field(default_factory=dict)


def true_masks(
    annotations: Iterable[Mapping[str, Any]],
    videos: Iterable[Mapping[str, Any]],
    truth: Mapping[str, Any],
    name: str = 'the ground truth',
) -> dict[int, list[RLE | None]]:
    """Finds and checks the true masks of annotations, crowds left out.

    Args:
        annotations: entries with ``id`` and ``video_id``.
        videos: entries with ``id``, ``file_names``, ``height`` and ``width``.
        truth: json in YouTube-VIS layout with the same ids and ``segmentations``.
        name: of the file that it is from, for messages.

    Returns:
        One mask a frame by annotation id, ``None`` where there is none or nothing in it.

    Raises:
        AnnotationError: if an annotation is missing in the truth or has no masks there, a mask is
            broken or of another size than its frame, or there is no mask at all.
    """
    entries = truth.get('annotations')
    if not isinstance(entries, list):
        raise AnnotationError(
            f"{name}: expected a list 'annotations', got {type(entries).__name__}; to score, give "
            'the same annotations with masks'
        )
    given = {
        (entry['video_id'], entry['id']): entry.get('segmentations')
        for entry in entries
        if isinstance(entry, dict) and is_int(entry.get('video_id')) and is_int(entry.get('id'))
    }
    infos = {
        video['id']: VideoInfo(
            video['id'],
            str(video.get('name', video['id'])),
            (video['height'], video['width']),
            len(video['file_names']),
        )
        for video in videos
    }
    found: dict[int, list[RLE | None]] = {}
    for entry in annotations:
        if not entry.get('iscrowd'):
            key = (entry['video_id'], entry['id'])
            where = f'{name}: video {key[0]}, annotation {key[1]}'
            found[entry['id']] = _checked_masks(given.get(key), infos[key[0]], where)
    if not any(any(masks) for masks in found.values()):
        raise AnnotationError(f'{name}: has no mask at all of these annotations')
    return found


def _checked_masks(masks: Any, video: VideoInfo, where: str) -> list[RLE | None]:
    where = f'{where}, field segmentations'
    problem = frame_list_problem(masks, video)
    if problem:
        raise AnnotationError(f'{where}: {problem}; does the file have masks, and the same ids?')
    rles: list[RLE | None] = []
    for frame, mask in enumerate(masks):
        try:
            rle = None if mask is None else compress(mask, video.size)
        except (ValueError, TypeError) as error:
            raise AnnotationError(f'{where}, frame {frame}: {error}') from error
        problem = mask_problem(rle, video) if rle else None
        if problem:
            raise AnnotationError(f'{where}, frame {frame}: {problem}')
        rles.append(rle)
    placed = [(where, frame, rle, video) for frame, rle in enumerate(rles) if rle]
    for problem in mask_string_problems(placed):
        raise AnnotationError(problem)
    return [rle if rle and mask_utils.area(rle) else None for rle in rles]


def score_masks(
    content: Mapping[str, Any], truth: Mapping[str, Any], name: str = 'the ground truth'
) -> MaskScores:
    """Compares masks with true ones of the same annotation ids, frame by frame.

    A true mask without a counterpart counts as an IoU of 0.

    Args:
        content: as :meth:`BoxAnnotations.with_masks` gives it.
        truth: json in YouTube-VIS layout with ``segmentations``.
        name: see :func:`true_masks`.

    Raises:
        AnnotationError: see :func:`true_masks`.
    """
    sizes = {video['id']: (video['height'], video['width']) for video in content['videos']}
    true = true_masks(content['annotations'], content['videos'], truth, name)
    ious: dict[int, list[float]] = {}
    box_ious: list[float] = []
    for entry in content['annotations']:
        masks, wanted = entry['segmentations'], true.get(entry['id'], [])
        for mask, true_mask, box in zip(masks, wanted, entry['bboxes']):
            if true_mask is None:
                continue
            ious.setdefault(entry['id'], []).append(_iou(mask, true_mask))
            filled = None if box is None else _filled(box, sizes[entry['video_id']])
            box_ious.append(_iou(filled, true_mask))
    values = np.array([iou for track in ious.values() for iou in track])
    return MaskScores(
        count=len(values),
        mean_iou=float(values.mean()),
        above_50=float((values > 0.5).mean()),
        above_70=float((values > 0.7).mean()),
        box_mean_iou=float(np.mean(box_ious)),
        by_annotation={key: float(np.mean(track)) for key, track in ious.items()},
    )


def doubtful_frames(
    content: Mapping[str, Any], min_confidence: float = 0.5, least_share: float = 0.0
) -> list[dict[str, Any]]:
    """Lists what a human should look at, the most doubtful first.

    A network that is too sure of itself may have no mask below any threshold; its least sure ones
    are still the worse ones.

    Args:
        content: as :meth:`BoxAnnotations.with_masks` gives it.
        min_confidence: masks below it are listed, and so are boxes without a mask.
        least_share: the share of the boxes, 0 to 1, that is listed in any case: those with the
            lowest confidences.

    Returns:
        Rows with ``video``, ``frame``, ``file_name``, ``annotation_id``, ``category``,
        ``confidence`` and ``reason``.
    """
    videos = {video['id']: video for video in content['videos']}
    names = {category['id']: category['name'] for category in content['categories']}
    rows: list[dict[str, Any]] = []
    surer: list[dict[str, Any]] = []
    for entry in content['annotations']:
        video = videos[entry['video_id']]
        for frame, confidence in enumerate(entry['confidences']):
            if confidence is None:
                continue
            empty = entry['segmentations'][frame] is None
            listed, reason = surer, 'least confident of the set'
            if empty:
                listed, reason = rows, 'no mask found in the box'
            elif confidence < min_confidence:
                listed, reason = rows, 'low confidence'
            listed.append(
                dict(
                    video=video.get('name', video['id']),
                    frame=frame,
                    file_name=video['file_names'][frame],
                    annotation_id=entry['id'],
                    category=names[entry['category_id']],
                    confidence=confidence,
                    reason=reason,
                )
            )
    missing = math.ceil(least_share * (len(rows) + len(surer))) - len(rows)
    surer.sort(key=lambda row: row['confidence'])
    return sorted(rows + surer[: max(missing, 0)], key=lambda row: row['confidence'])


def _iou(mask: RLE | None, true_mask: RLE) -> float:
    return 0.0 if mask is None else float(mask_utils.iou([mask], [true_mask], [0])[0, 0])


def _filled(box: Sequence[float], size: tuple[int, int]) -> RLE:
    x, y, width, height = box
    corners = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float64)
    return encode_masks(boxes_to_masks(corners, size) > 0)[0]


def _present(boxes: Tensor) -> Tensor:
    """(..., 4) boxes to (...) bool: whether they have an area."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _scaled(boxes: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Boxes in pixels of a frame of size (H, W) to those of another size."""
    # in float64, rounded at the end: an edge an ulp past a pixel's is in one pixel more
    wide = boxes.double()
    return (wide * wide.new_tensor([new[1] / old[1], new[0] / old[0]] * 2)).to(boxes)


def _with_size(video: dict[str, Any], root: StrPath, ann_file: str) -> dict[str, Any]:
    """Looks that the frames are there, inside the folder, and fills in a missing size."""
    for name in video['file_names']:
        where = f'{ann_file}: video {video["id"]} ({video["name"]}): {name}'
        try:
            path = path_below(root, name)
        except OutsideError as error:
            raise AnnotationError(f'{where}: {error}') from error
        if not Path(path).is_file():
            raise AnnotationError(f'{where}: not found in {root}; check the folder of the images')
    if video['height'] is not None and video['width'] is not None:
        return video
    try:
        width, height = image_size(Path(root, video['file_names'][0]))
    except OSError as error:
        where = f'{ann_file}: video {video["id"]} ({video["name"]}), frame 0'
        raise AnnotationError(f'{where}: {error}') from error
    return dict(video, height=height, width=width)
