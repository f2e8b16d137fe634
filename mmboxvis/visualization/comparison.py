"""Several results of the same videos side by side with the annotations.

Shorthand: V frames, (H, W) the original size; frames and pictures are BGR.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import numpy as np

from ._layout import (
    DARK,
    SheetSection,
    canvas_size,
    fit_into,
    fitted_height,
    put_plate,
    resized,
    stack_sections,
)
from ._text import fit_text, put_mask, text_mask
from ._track_frames import box_at, color_ids, draw_still, segmentation_at
from ._vis_json import (
    FrameFiles,
    Json,
    Track,
    VideoFiles,
    VisFile,
    check_length,
    choose_videos,
    read_tracks,
)
from .files import StrPath
from .overlay import overlay_frames
from .video_writer import write_video

GROUND_TRUTH = 'ground truth'
_GAP = 6


@dataclass(frozen=True)
class Panel:
    """One picture of the comparison: the tracks of one video from one source.

    Attributes:
        title: written above it.
        tracks: in the YouTube-VIS layout, with ``segmentations``, or with ``bboxes`` only.
        color_ids: one a track; tracks of several panels with one id have one colour.
    """

    title: str
    tracks: Sequence[Track]
    color_ids: Sequence[int]

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask to draw."""
        return all(track.get('segmentations') is not None for track in self.tracks)

    @property
    def scores(self) -> list[float] | None:
        """Scores to write, ``None`` for annotations."""
        scored = bool(self.tracks) and all('score' in track for track in self.tracks)
        return [track['score'] for track in self.tracks] if scored else None


def comparison_video(
    image_root: StrPath,
    gt_json: StrPath | Json,
    results: Mapping[str, StrPath | Json],
    out_mp4: StrPath,
    *,
    video_ids: Sequence[int] | None = None,
    score_thr: float = 0.3,
    fps: float = 8,
    trail_length: int = 0,
    show_boxes: bool = False,
    max_side: int = 1920,
) -> Path:
    """Writes a video that shows the annotations and each result side by side, in step.

    A track has the colour of the annotated object it overlaps most, in all panels.

    Args:
        image_root: folder that the ``file_names`` start from.
        gt_json: annotations, as a path or loaded; masks are drawn where there are some, else
            boxes. A file without annotations has no panel.
        results: name and submission of each result, at least one.
        out_mp4: ``.mp4`` or ``.gif``, written whole or not at all.
        video_ids: the videos in this order; all where ``None``.
        score_thr: results of a lower score are not shown.
        fps: frames per second.
        trail_length: number of earlier frames whose centres are drawn behind each track.
        show_boxes: whether the boxes around the masks are drawn as well.
        max_side: the longest side of the video in pixels.

    Returns:
        ``out_mp4``.

    Raises:
        ValueError: no result is given, a video id is unknown, or a result is of other videos.
        FileNotFoundError: a file or a frame is missing.
    """
    annotations = VisFile.load(gt_json)
    videos = choose_videos(annotations.videos, video_ids, len(annotations.videos))
    panels = _panels(annotations, videos, results, score_thr)
    num_panels = len(panels[videos[0].video_id])
    columns = num_columns(num_panels)
    cell = canvas_size([video.size for video in videos], max_side // columns, min_side=320)

    def frames() -> Iterator[np.ndarray]:
        for video in videos:
            drawn = panel_frames(
                FrameFiles(image_root, video),
                panels[video.video_id],
                annotations.class_names,
                cell,
                size=video.size,
                trail_length=trail_length,
                show_boxes=show_boxes,
            )
            titles = [panel.title for panel in panels[video.video_id]]
            for t, pictures in enumerate(drawn):
                picture = _tile(pictures, titles, columns)
                caption = f'{video.name}   {t + 1}/{len(video.file_names)}'
                put_plate(picture, text_mask(caption, int(np.clip(cell[0] // 22, 10, 28))))
                yield picture

    return write_video(out_mp4, frames(), fps)


def comparison_sheet(
    image_root: StrPath,
    gt_json: StrPath | Json,
    results: Mapping[str, StrPath | Json],
    out_png: StrPath,
    *,
    video_ids: Sequence[int] | None = None,
    num_videos: int = 4,
    frames_per_video: int = 5,
    score_thr: float = 0.3,
    title: str = '',
    cell_width: int = 288,
    dark: bool = False,
) -> Path:
    """Draws a row for each result, frames from left to right (figures 3 to 8 of the paper).

    Args:
        image_root: see :func:`comparison_video` for this and what follows.
        gt_json: annotations.
        results: name and submission of each result.
        out_png: ``.png`` or ``.jpg``, written whole or not at all.
        video_ids: the videos in this order; ``num_videos`` of them where ``None``.
        num_videos: number of videos, spread evenly over the file.
        frames_per_video: columns, spread evenly over the video.
        score_thr: results of a lower score are not shown.
        title: a line at the top.
        cell_width: width of a cell in pixels.
        dark: dark background instead of white.

    Returns:
        ``out_png``.

    Raises:
        ValueError: no result is given, a video id is unknown, or a result is of other videos.
        FileNotFoundError: a file or a frame is missing.
    """
    if frames_per_video < 1:
        raise ValueError(f'frames_per_video must be at least 1, got {frames_per_video}')
    annotations = VisFile.load(gt_json)
    videos = choose_videos(annotations.videos, video_ids, num_videos)
    panels = _panels(annotations, videos, results, score_thr)
    sections = []
    for video in videos:
        section = _section(
            FrameFiles(image_root, video),
            panels[video.video_id],
            annotations.class_names,
            frames_per_video,
            cell_width,
        )
        sections.append(section)
    stack_sections(sections, path=out_png, title=title, cell_width=cell_width, dark=dark)
    return Path(out_png)


def _section(
    frames: FrameFiles,
    panels: Sequence[Panel],
    class_names: Mapping[int, str],
    num_frames: int,
    cell_width: int,
) -> SheetSection:
    """The rows of one video: its frames, and each panel's."""
    steps = np.unique(np.linspace(0, len(frames) - 1, num_frames).round().astype(int)).tolist()
    cells = [
        resized(frame, (fitted_height(frame, cell_width), cell_width))
        for frame in (frames[t] for t in steps)
    ]
    rows = [
        [
            draw_still(
                cell,
                panel.tracks,
                t,
                frames.video.size,
                ids=panel.color_ids,
                class_names=class_names,
                with_masks=panel.has_masks,
            )
            for cell, t in zip(cells, steps, strict=True)
        ]
        for panel in panels
    ]
    titles = ['frames', *(panel.title for panel in panels)]
    return SheetSection([cells, *rows], titles, [f'frame {t}' for t in steps], frames.video.name)


def make_panels(
    annotated: Sequence[Track] | None,
    results: Mapping[str, Sequence[Track]],
    video: VideoFiles,
) -> list[Panel]:
    """The panels of one video: annotations first, unless ``None``, then each result."""
    steps = range(len(video.file_names))
    truth = list(annotated or ())
    for track in truth:
        check_length(track, len(video.file_names), video.name)
    panels = [] if annotated is None else [Panel(GROUND_TRUTH, truth, range(len(truth)))]
    return panels + [
        Panel(name, tracks, color_ids(truth, tracks, steps, video.size))
        for name, tracks in results.items()
    ]


def panel_frames(
    frames: Sequence[np.ndarray],
    panels: Sequence[Panel],
    class_names: Mapping[int, str],
    cell: tuple[int, int],
    *,
    size: tuple[int, int],
    trail_length: int = 0,
    show_boxes: bool = False,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Draws the panels of one video, frame by frame; each frame is read once.

    Args:
        frames: V frames (_, _, 3) uint8, all of one size.
        panels: what to draw.
        class_names: name of each category id.
        cell: (h, w) of a panel; frames are fitted into it.
        size: (H, W) that the tracks are in, which may be another than that of the frames.
        trail_length: see :func:`comparison_video`.
        show_boxes: see :func:`comparison_video`.

    Yields:
        One picture (h, w, 3) uint8 a panel.
    """
    streams = tee(iter(frames[t] for t in range(len(frames))), len(panels))
    drawn = [
        _drawn(stream, panel, class_names, cell, size, len(frames), trail_length, show_boxes)
        for stream, panel in zip(streams, panels, strict=True)
    ]
    yield from zip(*drawn, strict=True)


def num_columns(num_panels: int) -> int:
    """Columns of a grid of panels: one row of up to three, else about square."""
    return num_panels if num_panels <= 3 else math.ceil(math.sqrt(num_panels))


def _panels(
    annotations: VisFile,
    videos: Sequence[VideoFiles],
    results: Mapping[str, StrPath | Json],
    score_thr: float,
) -> dict[int, list[Panel]]:
    """The panels of each video id."""
    if not results:
        raise ValueError('nothing to compare: give at least one result')
    read = {
        name: read_tracks(source, annotations.videos, videos, score_thr)
        for name, source in results.items()
    }
    return {
        video.video_id: make_panels(
            annotations.tracks.get(video.video_id, []) if annotations.tracks else None,
            {name: tracks[video.video_id] for name, tracks in read.items()},
            video,
        )
        for video in videos
    }


def _drawn(
    frames: Iterator[np.ndarray],
    panel: Panel,
    class_names: Mapping[int, str],
    cell: tuple[int, int],
    size: tuple[int, int],
    num_frames: int,
    trail_length: int,
    show_boxes: bool,
) -> Iterator[np.ndarray]:
    """One panel, frame by frame, in the middle of its cell."""
    first = next(frames, None)
    if first is None:
        return
    height, width = first.shape[:2]
    fit = min(cell[0] / height, cell[1] / width)
    shown = max(1, round(height * fit)), max(1, round(width * fit))
    scale = np.array([shown[1] / size[1], shown[0] / size[0]] * 2)
    steps = range(num_frames)
    masks, boxes = None, None
    if panel.has_masks:
        # polygons are in pixels of the video, and would be taken for pixels of the picture
        masks = [[segmentation_at(track, t, size) for t in steps] for track in panel.tracks]
    else:
        boxes = [
            [
                None if box is None else box * scale
                for box in (box_at(track, t, size) for t in steps)
            ]
            for track in panel.tracks
        ]

    def images() -> Iterator[np.ndarray]:
        yield resized(first, shown)
        for frame in frames:
            yield resized(frame, shown)

    overlays = overlay_frames(
        images(),
        masks,
        boxes=boxes,
        labels=[track['category_id'] for track in panel.tracks],
        scores=panel.scores,
        track_ids=panel.color_ids,
        class_names=class_names,
        trail_length=trail_length,
        show_boxes=show_boxes,
        min_side=None,
    )
    for overlay in overlays:
        yield fit_into(overlay, cell, DARK.background)


def _tile(pictures: Sequence[np.ndarray], titles: Sequence[str], columns: int) -> np.ndarray:
    """Pictures of one size on a dark grid, each below its title; sides are even."""
    height, width = pictures[0].shape[:2]
    text_size = int(np.clip(height // 20, 11, 28))
    head = text_size + 12
    rows = -(-len(pictures) // columns)
    total = rows * (head + height) + (rows - 1) * _GAP, columns * width + (columns - 1) * _GAP
    canvas = np.full(
        (total[0] + total[0] % 2, total[1] + total[1] % 2, 3), DARK.background, np.uint8
    )
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        y = index // columns * (head + height + _GAP)
        x = index % columns * (width + _GAP)
        put_mask(
            canvas,
            text_mask(fit_text(title, text_size, width - 16), text_size),
            x + 8,
            y + 4,
            DARK.ink,
        )
        canvas[y + head : y + head + height, x : x + width] = picture
    return canvas
