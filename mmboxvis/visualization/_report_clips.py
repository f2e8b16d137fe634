"""Short clips for the report: pictures as data URIs, and what lies under the mouse."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import cv2
import numpy as np

from mmboxvis.evaluation.functional import ErrorAnalysis, track_iou
from mmboxvis.files import StrPath

from ._layout import fitted_height
from ._track_frames import box_at, segmentation_at
from ._vis_json import FrameFiles, Track, VideoFiles, VisFile, read_tracks
from .comparison import GROUND_TRUTH, Panel, make_panels, panel_frames
from .overlay import track_color
from .tracks import decode_mask, to_rle

_WEBP_QUALITY = 60
# columns of the map that says which track is under the mouse
_MAP_WIDTH = 96


@dataclass(frozen=True)
class ClipOptions:
    """How clips are drawn; see :func:`~.report.write_report`."""

    image_root: StrPath
    score_thr: float
    num_frames: int
    width: int


def make_clips(
    gt_json: Any,
    entries: Sequence[Mapping[str, Any]],
    chosen: Sequence[tuple[str, int, float]],
    analysis: ErrorAnalysis,
    options: ClipOptions,
) -> list[dict[str, Any]]:
    """Draws the annotations and the results of some videos.

    Args:
        gt_json: annotations, as a path or loaded.
        entries: results.
        chosen: 'worst' or 'best', video id, and AP of each video.
        analysis: of the same files.
        options: see :class:`ClipOptions`.

    Returns:
        For each video ``group``, ``name``, ``ap``, ``steps`` (numbers of the frames shown) and
        ``panels``, each with ``title``, ``pictures`` (data URIs), ``tracks`` (``caption`` and
        ``color``), ``map_size`` (height, width) and ``maps``: for each frame the runs of 0
        (nothing) or 1 + position in ``tracks``, value and length in turn, row by row.
    """
    annotations = VisFile.load(gt_json)
    videos = [annotations.videos[video_id] for _, video_id, _ in chosen]
    numbered = [dict(entry, index=index) for index, entry in enumerate(entries)]
    shown = read_tracks(numbered, annotations.videos, videos, options.score_thr)
    kinds = {error.result: error.kind for error in analysis.errors if error.result >= 0}
    clips = []
    for (group, video_id, ap), video in zip(chosen, videos, strict=True):
        annotated = annotations.tracks.get(video_id, [])
        truth, result = make_panels(annotated, {'result': shown[video_id]}, video)
        captions = {
            GROUND_TRUTH: [
                f'annotation {track.get("id", place)}: {_class(annotations, track)}'
                for place, track in enumerate(annotated)
            ],
            'result': [
                _result_caption(track, annotations, annotated, video, kinds)
                for track in result.tracks
            ],
        }
        steps = np.linspace(0, len(video.file_names) - 1, options.num_frames).round().astype(int)
        steps = np.unique(steps).tolist()
        panels = [
            dict(
                title=panel.title,
                tracks=_legend(panel, captions[panel.title]),
                pictures=[],
                maps=[],
            )
            for panel in (truth, result)
        ]
        _draw(panels, (truth, result), video, steps, annotations.class_names, options)
        clips.append(dict(group=group, name=video.name, ap=ap, steps=steps, panels=panels))
    return clips


def _draw(
    out: Sequence[dict[str, Any]],
    panels: Sequence[Panel],
    video: VideoFiles,
    steps: Sequence[int],
    class_names: Mapping[int, str],
    options: ClipOptions,
) -> None:
    """Adds the pictures and maps of a video to its panels, our own dicts."""
    files = FrameFiles(options.image_root, video)
    frames = _Some(files, steps)
    cut = [
        Panel(panel.title, [_at_steps(track, steps) for track in panel.tracks], panel.color_ids)
        for panel in panels
    ]
    height = fitted_height(frames[0], options.width)
    drawn = panel_frames(frames, cut, class_names, (height, options.width), size=video.size)
    for t, pictures in enumerate(drawn):
        for target, panel, picture in zip(out, cut, pictures, strict=True):
            target['pictures'].append(_data_uri(picture))
            target['maps'].append(_runs(_id_map(panel, t, video.size).ravel()))
    for target in out:
        target['map_size'] = _map_size(video.size)


class _Some(Sequence):
    """Some frames of a video, read when asked for."""

    def __init__(self, frames: FrameFiles, steps: Sequence[int]) -> None:
        self._frames, self._steps = frames, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: Any) -> Any:
        return self._frames[self._steps[index]]


def _at_steps(track: Track, steps: Sequence[int]) -> dict[str, Any]:
    cut = dict(track)
    for field in ('segmentations', 'bboxes'):
        if track.get(field) is not None:
            cut[field] = [track[field][t] for t in steps]
    return cut


def _class(annotations: VisFile, track: Track) -> str:
    return annotations.class_names.get(int(track['category_id']), str(track['category_id']))


def _result_caption(
    track: Track,
    annotations: VisFile,
    annotated: Sequence[Track],
    video: VideoFiles,
    kinds: Mapping[int, str],
) -> str:
    """Number in the file, class, score, best IoU, and the error at IoU 0.5 if it is one."""
    index = int(track['index'])
    parts = [f'result {index}: {_class(annotations, track)}', f'score {track["score"]:.2f}']
    masks = [t['segmentations'] for t in annotated if t.get('segmentations') is not None]
    if masks:
        truths = [[to_rle(mask, video.size) for mask in frames] for frames in masks]
        parts.append(f'best IoU {track_iou([track["segmentations"]], truths).max():.2f}')
    parts.append(
        f'error at IoU 0.5: {kinds[index].replace("_", " ")}' if index in kinds else 'no error'
    )
    return ', '.join(parts)


def _legend(panel: Panel, captions: Iterable[str]) -> list[dict[str, str]]:
    legend = []
    for color_id, caption in zip(panel.color_ids, captions, strict=True):
        blue, green, red = track_color(color_id)
        legend.append(dict(caption=caption, color=f'#{red:02x}{green:02x}{blue:02x}'))
    return legend


def _data_uri(picture: np.ndarray) -> str:
    ok, buffer = cv2.imencode('.webp', picture, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])
    assert ok
    return 'data:image/webp;base64,' + base64.b64encode(buffer.tobytes()).decode('ascii')


def _map_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _MAP_WIDTH / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _id_map(panel: Panel, t: int, size: tuple[int, int]) -> np.ndarray:
    """(h, w) int64: 0 or 1 + position of the track; small tracks lie above large ones."""
    height, width = _map_size(size)
    masks = []
    for place, track in enumerate(panel.tracks):
        if panel.has_masks:
            mask = decode_mask(segmentation_at(track, t, size), (height, width))
        else:
            mask = _box_mask(box_at(track, t, size), size, (height, width))
        if mask is not None and mask.any():
            masks.append((int(mask.sum()), place, mask))
    ids = np.zeros((height, width), np.int64)
    for _, place, mask in sorted(masks, key=lambda item: -item[0]):
        ids[mask] = place + 1
    return ids


def _box_mask(
    box: np.ndarray | None, size: tuple[int, int], map_size: tuple[int, int]
) -> np.ndarray | None:
    if box is None:
        return None
    scale = np.array([map_size[1] / size[1], map_size[0] / size[0]] * 2)
    x1, y1, x2, y2 = np.rint(box * scale).astype(int).tolist()
    mask = np.zeros(map_size, bool)
    mask[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = True
    return mask


def _runs(values: np.ndarray) -> list[int]:
    """Value and length of each run, in turn."""
    runs: list[int] = []
    for value, run in groupby(values.tolist()):
        runs += [value, len(list(run))]
    return runs
