"""Contact sheets and overlay videos of the results on a YouTube-VIS data set.

Shorthand: V frames, (H, W) the original size; frames and pictures are BGR.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ._layout import (
    DARK,
    SheetSection,
    canvas_size,
    contact_sheet,
    fit_into,
    fitted_height,
    put_plate,
    resized,
    stack_sections,
)
from ._text import text_mask
from ._track_frames import color_ids, draw_still
from ._vis_json import (
    FrameFiles,
    Json,
    Track,
    VisFile,
    check_length,
    choose_videos,
    read_tracks,
)
from .files import StrPath
from .overlay import overlay_frames
from .video_writer import write_video

__all__ = [
    'SheetSection',
    'contact_sheet',
    'overlay_video_from_json',
    'prediction_sheet',
    'sheet_from_json',
    'stack_sections',
]


def prediction_sheet(
    frames: Sequence[np.ndarray],
    box_tracks: Sequence[Track] | None,
    predicted_tracks: Sequence[Track] | None,
    mask_tracks: Sequence[Track] | None,
    path: StrPath | None = None,
    *,
    class_names: Mapping[int, str],
    num_frames: int = 6,
    heading: str = '',
    cell_width: int = 288,
    dark: bool = False,
) -> np.ndarray:
    """One video: frames, the boxes given, the masks predicted and the true masks over time.

    A track has one colour in all rows: predictions take the colour of the object they overlap
    most.

    Args:
        frames: V frames (H, W, 3) uint8; only those shown are asked for.
        box_tracks: annotations of the video in YouTube-VIS layout (``category_id``, ``bboxes`` as
            xywh or null); ``None`` leaves the row out.
        predicted_tracks: results of the video (``category_id``, ``score``, ``segmentations``).
        mask_tracks: annotations with ``segmentations``.
        path: where the sheet is written, whole or not at all, if given.
        class_names: name of each category id.
        num_frames: columns, spread evenly over the video.
        heading: a line above the rows, such as the video's name.
        cell_width: width of a cell in pixels.
        dark: dark background instead of white.

    Returns:
        The sheet, (h, w, 3) uint8 BGR.

    Raises:
        ValueError: the video is empty or a track's length is not the video's.
    """
    section = _video_section(
        frames,
        _VideoTracks(box_tracks, predicted_tracks, mask_tracks),
        class_names=class_names,
        num_frames=num_frames,
        heading=heading,
        cell_width=cell_width,
    )
    return stack_sections([section], path=path, cell_width=cell_width, dark=dark)


def sheet_from_json(
    image_root: StrPath,
    boxes_json: StrPath | Json | None,
    results_json: StrPath | Json | None,
    instances_json: StrPath | Json | None,
    out_png: StrPath,
    *,
    num_videos: int = 4,
    frames_per_video: int = 6,
    score_thr: float = 0.3,
    video_ids: Sequence[int] | None = None,
    title: str = '',
    cell_width: int = 288,
    dark: bool = False,
) -> Path:
    """Stacks :func:`prediction_sheet` blocks of several videos.

    Args:
        image_root: folder that the ``file_names`` start from.
        boxes_json: annotations with ``bboxes``, as a path or loaded; ``None`` leaves the row out.
        results_json: submission list, or ``None``. Of results that share their masks only the
            best scored one is shown.
        instances_json: annotations with ``segmentations``, or ``None``.
        out_png: written whole or not at all.
        num_videos: number of videos, spread evenly over the file.
        frames_per_video: columns.
        score_thr: results of a lower score are not shown.
        video_ids: show these videos instead.
        title: a line at the top.
        cell_width: width of a cell in pixels.
        dark: dark background instead of white.

    Returns:
        ``out_png``.

    Raises:
        ValueError: both annotation files are missing, a video id is unknown, or the results are
            all of other videos.
        FileNotFoundError: a frame is missing.
    """
    boxes, instances = (
        None if source is None else VisFile.load(source) for source in (boxes_json, instances_json)
    )
    annotations = boxes if boxes is not None else instances
    if annotations is None:
        raise ValueError('boxes_json or instances_json must be given: the videos are listed there')
    videos = choose_videos(annotations.videos, video_ids, num_videos)
    results = (
        None
        if results_json is None
        else read_tracks(results_json, annotations.videos, videos, score_thr)
    )
    rows = (
        None if boxes is None else boxes.tracks,
        results,
        None if instances is None else instances.tracks,
    )
    sections = []
    for video in videos:
        found = (None if row is None else row.get(video.video_id, []) for row in rows)
        sections.append(
            _video_section(
                FrameFiles(image_root, video),
                _VideoTracks(*found),
                class_names=annotations.class_names,
                num_frames=frames_per_video,
                heading=video.name,
                cell_width=cell_width,
            )
        )
    stack_sections(sections, path=out_png, title=title, cell_width=cell_width, dark=dark)
    return Path(out_png)


def overlay_video_from_json(
    image_root: StrPath,
    gt_or_videos_json: StrPath | Json,
    results_json: StrPath | Json,
    out_mp4: StrPath,
    *,
    video_ids: Sequence[int] | None = None,
    score_thr: float = 0.3,
    fps: float = 8,
    trail_length: int = 0,
    show_boxes: bool = False,
    max_side: int = 1280,
) -> Path:
    """Writes one video that shows the results of several videos one after the other.

    All are scaled to fit one canvas; each frame carries the video's name and its number.

    Args:
        image_root: folder that the ``file_names`` start from.
        gt_or_videos_json: a file with ``videos`` and ``categories``, as a path or loaded.
        results_json: submission list; annotations with ``segmentations`` are taken as well and
            drawn without a score.
        out_mp4: ``.mp4`` or ``.gif``, written whole or not at all.
        video_ids: the videos in this order; all where ``None``.
        score_thr: results of a lower score are not shown.
        fps: frames per second.
        trail_length: number of earlier frames whose centres are drawn behind each track.
        show_boxes: whether the boxes around the masks are drawn as well.
        max_side: the canvas' longest side in pixels.

    Returns:
        ``out_mp4``.

    Raises:
        ValueError: a video id is unknown, or the results are all of other videos.
        FileNotFoundError: a frame is missing.
    """
    annotations = VisFile.load(gt_or_videos_json)
    videos = choose_videos(annotations.videos, video_ids, len(annotations.videos))
    results = read_tracks(results_json, annotations.videos, videos, score_thr)
    canvas = canvas_size([video.size for video in videos], max_side)

    def frames() -> Iterator[np.ndarray]:
        for video in videos:
            yield from _overlaid(
                FrameFiles(image_root, video),
                results[video.video_id],
                annotations.class_names,
                canvas,
                trail_length=trail_length,
                show_boxes=show_boxes,
            )

    return write_video(out_mp4, frames(), fps)


@dataclass(frozen=True)
class _VideoTracks:
    """The tracks of one video in each row; ``None`` where the row is left out."""

    boxes: Sequence[Track] | None
    predicted: Sequence[Track] | None
    truth: Sequence[Track] | None


def _video_section(
    frames: Sequence[np.ndarray],
    tracks: _VideoTracks,
    *,
    class_names: Mapping[int, str],
    num_frames: int,
    heading: str,
    cell_width: int,
) -> SheetSection:
    if not len(frames) or num_frames < 1:
        raise ValueError(f'{heading or "video"}: no frame to show')
    for track in (t for row in (tracks.boxes, tracks.predicted, tracks.truth) for t in row or ()):
        check_length(track, len(frames), heading)
    steps = np.unique(np.linspace(0, len(frames) - 1, num_frames).round().astype(int)).tolist()
    originals = [frames[t] for t in steps]
    size = originals[0].shape[:2]
    cells = [resized(frame, (fitted_height(frame, cell_width), cell_width)) for frame in originals]
    rows: list[Sequence[np.ndarray]] = [cells]
    titles = ['frames']
    reference: Sequence[Track] = tracks.boxes or tracks.truth or ()
    named_rows = (
        ('boxes given', tracks.boxes, False),
        ('masks predicted', tracks.predicted, True),
        ('masks true', tracks.truth, True),
    )
    for name, row, with_masks in named_rows:
        if row is None:
            continue
        ids = color_ids(reference, row, steps, size)
        rows.append(
            [
                draw_still(
                    cell, row, t, size, ids=ids, class_names=class_names, with_masks=with_masks
                )
                for cell, t in zip(cells, steps, strict=True)
            ]
        )
        titles.append(name)
    return SheetSection(rows, titles, [f'frame {t}' for t in steps], heading)


def _overlaid(
    frames: FrameFiles,
    tracks: Sequence[Track],
    class_names: Mapping[int, str],
    canvas: tuple[int, int],
    *,
    trail_length: int,
    show_boxes: bool,
) -> Iterator[np.ndarray]:
    """Frames of one video with its tracks, in the middle of the canvas, below name and number."""
    height, width = frames.video.size
    scale = min(canvas[0] / height, canvas[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    scored = all('score' in track for track in tracks)
    drawn = overlay_frames(
        (resized(frame, size) for frame in frames),
        [track['segmentations'] for track in tracks],
        labels=[track['category_id'] for track in tracks],
        scores=[track['score'] for track in tracks] if scored else None,
        track_ids=range(len(tracks)),
        class_names=class_names,
        trail_length=trail_length,
        show_boxes=show_boxes,
        min_side=None,
    )
    text_size = int(np.clip(min(canvas) // 28, 10, 32))
    for t, frame in enumerate(drawn):
        picture = fit_into(frame, canvas, DARK.background)
        caption = f'{frames.video.name}   {t + 1}/{len(frames)}'
        put_plate(picture, text_mask(caption, text_size))
        yield picture
