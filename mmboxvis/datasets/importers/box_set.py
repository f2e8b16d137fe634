"""What every importer gives: videos with tracks of boxes, checked while they are gathered.

Shape shorthand: V frames in a video. Boxes are (x, y, w, h) in pixels with the origin at the outer
corner of the first pixel, so that a box over the whole frame is (0, 0, width, height).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any, Literal

from mmboxvis.files import StrPath
from mmboxvis.run_lengths import MAX_SIDE

from .place import MAX_COUNT, MAX_NUMBER, AnnotationError, Place

Box = tuple[float, float, float, float]
OcclusionLevel = Literal['no_occlusion', 'slight_occlusion', 'severe_occlusion']

NO_CLASS = 'object'
"""Class of boxes that have none, where the format has no better word for it."""
MAX_FRAMES = 200_000
"""Frames in one video, unless the user allows more: almost two hours at 30 a second."""
MAX_BOXES = 5_000_000
"""Boxes in one import, to keep memory in bounds; BDD100K MOT has 3.3 million."""
IDENTITIES = ('group_id', 'label', 'order', 'none')
"""Values of ``ReadOptions.identity``, besides ``attribute:NAME``."""
FRAME_NAME = '{video}/{frame:06d}.jpg'
"""How the image of a frame is called where neither the source nor the user says."""


@dataclass(frozen=True)
class Track:
    """One object through a video.

    Attributes:
        key: its identity in the source, for messages.
        label: name of its class.
        boxes: position of a frame (0 to V-1) to the box there; absent frames are left out.
        occlusion: position of a frame to the level of occlusion, where it is known.
        masks: position of a frame to run-lengths ``dict(size, counts)``, where they are kept.
        score: of a result, how sure it is.
    """

    key: str
    label: str
    boxes: Mapping[int, Box]
    occlusion: Mapping[int, OcclusionLevel] = field(default_factory=dict)
    masks: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    score: float | None = None


@dataclass(frozen=True)
class Video:
    """A video and the objects in it.

    Attributes:
        name: unique in its set; also the folder that extracted frames go to.
        file_names: V paths of images, relative to the root of all images.
        numbers: V numbers of the frames in the source, rising.
        tracks: the objects.
        width: of the frames in pixels, ``None`` where the source does not tell.
        height: likewise.
        first_number: the number that the source gives to the first frame of the video file.
        fps: annotated frames a second, where known.
        numbered: whether ``numbers`` tell frames of the video file; else they are positions.
    """

    name: str
    file_names: tuple[str, ...]
    numbers: tuple[int, ...]
    tracks: tuple[Track, ...] = ()
    width: int | None = None
    height: int | None = None
    first_number: int = 0
    fps: float | None = None
    numbered: bool = True

    def take(self, positions: Iterable[int]) -> Video:
        """The video with only some of its frames, given by their rising positions.

        Tracks that are seen in none of them are left out.
        """
        kept = list(positions)
        new = {old: position for position, old in enumerate(kept)}

        def select(values: Mapping[int, Any]) -> dict[int, Any]:
            return {new[old]: value for old, value in values.items() if old in new}

        tracks = (
            dataclasses.replace(
                track,
                boxes=select(track.boxes),
                occlusion=select(track.occlusion),
                masks=select(track.masks),
            )
            for track in self.tracks
        )
        return dataclasses.replace(
            self,
            file_names=tuple(self.file_names[old] for old in kept),
            numbers=tuple(self.numbers[old] for old in kept),
            tracks=tuple(track for track in tracks if track.boxes),
        )


@dataclass(frozen=True)
class BoxSet:
    """All videos of a source.

    Attributes:
        videos: with different names.
        classes: names of the classes: those the source declares, in its order, then others.
        notes: what was left out or decided on the way, and how often.
    """

    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadOptions:
    """What the user tells beyond the source; each format takes some of it.

    Attributes:
        size: width and height of the frames, where the source lacks them.
        images: root of all images, to read a size from.
        movies: video files, each with the name of its video or ``None``, to read a size from.
        single: whether no other source is imported along, so that a file without a name can only
            be that of its video.
        name_template: how images are called, over the source's own names; may use ``{video}``,
            ``{frame}`` (its number in the source) and ``{stem}`` (stem of the source's name).
        first_frame: number of the first frame, where it is not the usual one; where numbers are
            those in names of images, 0 is.
        origin: coordinate of the first pixel, 0 or 1 (MOT).
        identity: what tells which shapes in different images are one object: ``'group_id'``,
            ``'label'`` (``car-1``), ``'order'`` (the n-th shape of a label), ``'none'`` (each
            image is a video of its own), or ``'attribute:NAME'``.
        label: class of boxes that have none, over the format's own.
        labels: class names in the order of the source's class numbers, over its own list.
        last_column: what the sixth column is, where it may be either (YOLO).
        keep_masks: also keep masks.
        annotations: CocoVID json that results are of.
        max_frames: longest video that is accepted.
    """

    size: tuple[int, int] | None = None
    images: StrPath | None = None
    movies: tuple[tuple[str | None, Path], ...] = ()
    single: bool = True
    name_template: str | None = None
    first_frame: int | None = None
    origin: int = 0
    identity: str = 'group_id'
    label: str | None = None
    labels: tuple[str, ...] = ()
    last_column: Literal['id', 'conf'] | None = None
    keep_masks: bool = False
    annotations: Path | None = None
    max_frames: int = MAX_FRAMES

    def __post_init__(self) -> None:
        if self.name_template is not None:
            try:
                self.name_template.format(video='v', frame=1, stem='s')
            except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f'names {self.name_template!r}: may use {{video}}, {{frame}} and {{stem}}, '
                    f'such as {FRAME_NAME!r} ({error})'
                ) from error
        if self.label is not None:
            Place(Path('--label')).text(self.label, 'the class')
        if self.identity not in IDENTITIES and not self.identity.startswith('attribute:'):
            raise ValueError(
                f'identity must be one of {IDENTITIES} or attribute:NAME, got {self.identity!r}'
            )


def from_corners(left: float, top: float, right: float, bottom: float) -> Box:
    """(x, y, w, h) of a box given by the edges."""
    return left, top, right - left, bottom - top


def enclosing(points: Iterable[tuple[float, float]]) -> Box:
    """The smallest box around points, of which there is at least one."""
    xs, ys = zip(*points, strict=True)
    return from_corners(min(xs), min(ys), max(xs), max(ys))


def union(first: Box, second: Box) -> Box:
    """The smallest box around two boxes."""
    corners = [(x + dx, y + dy) for x, y, w, h in (first, second) for dx, dy in ((0, 0), (w, h))]
    return enclosing(corners)


def numbers_in(file_names: Sequence[str]) -> tuple[int, ...] | None:
    """Numbers of frames by the ends of their names: ``walk_0010.jpg`` is frame 10.

    ``None`` unless all have one and they rise.
    """
    # a longer number is a time or a hash
    pattern = re.compile(r'(?<![0-9])[0-9]{1,18}$')
    found = [pattern.search(PurePosixPath(name).stem) for name in file_names]
    numbers = tuple(int(digits[0]) for digits in found if digits is not None)
    rising = all(first < second for first, second in pairwise(numbers))
    good = rising and len(numbers) == len(found) and max(numbers, default=0) <= MAX_COUNT
    return numbers if good else None


def pictures_of(numbers: Sequence[int], first: int, video: object, *, step: int = 1) -> list[int]:
    """Indices in the video file of frames that a source numbers.

    Args:
        numbers: of the frames, at least one, rising.
        first: number of the first picture of the file.
        video: name, for the message.
        step: pictures from one number to the next.

    Raises:
        AnnotationError: if a frame is ahead of the first.
    """
    if numbers[0] < first:
        raise AnnotationError(
            f'video {video!r}: has frame {numbers[0]}, but frames count from {first}; say with '
            '--first-frame what number the first picture has'
        )
    return [(number - first) * step for number in numbers]


def occlusion_level(
    occluded: bool | None = None, visibility: float | None = None
) -> OcclusionLevel | None:
    """Level of occlusion, in OVIS's terms, from what formats tell.

    Args:
        occluded: whether the object is partly hidden; ``True`` is read as slight.
        visibility: visible share of the object, 0 to 1, which goes before ``occluded``: all of it
            is no occlusion, at least half is slight, less is severe. Other values are no answer.
    """
    if visibility is not None and 0 <= visibility <= 1:
        if visibility == 1:
            return 'no_occlusion'
        return 'slight_occlusion' if visibility >= 0.5 else 'severe_occlusion'
    if occluded is None:
        return None
    return 'slight_occlusion' if occluded else 'no_occlusion'


VISIBILITY: Mapping[OcclusionLevel | None, float] = {
    None: 1.0,
    'no_occlusion': 1.0,
    'slight_occlusion': 0.75,
    'severe_occlusion': 0.25,
}
"""Visible share to export for a level; :func:`occlusion_level` leads back."""


def refuse_shared(
    video: str, file_names: Iterable[str], owners: dict[str, str], place: Place
) -> None:
    """Refuses images of a video that are called like those of another, which they would replace.

    Args:
        video: its name.
        file_names: of its images; they are added to ``owners``.
        owners: video of each image so far.
        place: for the message.

    Raises:
        AnnotationError: if an image is called like one of another video.
    """
    for file_name in file_names:
        if owners.setdefault(file_name, video) != video:
            place.fail(
                f'an image of video {video!r} is called {file_name!r}, and so is one of video '
                f'{owners[file_name]!r}; give each its own with --names and {{video}} in it, such '
                f'as {FRAME_NAME!r}'
            )


class Collector:
    """Takes boxes as a reader comes upon them, checks each, and gives the :class:`BoxSet`."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self._drafts: dict[str, VideoDraft] = {}
        self._notes: Counter[str] = Counter()
        self._owners: dict[str, str] = {}
        self._boxes = 0

    def note(self, what: str, count: int = 1) -> None:
        """Counts something that is left out or decided."""
        self._notes[what] += count

    def video(
        self,
        name: str,
        numbers: Sequence[int] | None,
        place: Place,
        *,
        size: tuple[int | None, int | None] = (None, None),
        file_names: Sequence[str] | None = None,
        template: str = FRAME_NAME,
        first_number: int = 0,
        fps: float | None = None,
        numbered: bool = True,
        may_share: bool = False,
    ) -> VideoDraft:
        """Begins a video.

        Args:
            name: checked to be a path that stays below the root.
            numbers: number of each frame in the source; a ``range`` is not spread out before its
                length is checked. ``None`` takes those at the ends of ``file_names``, if all have
                one and they rise, else positions.
            place: where the video is defined.
            size: width and height; the user's go before where the source has none.
            file_names: the source's own names of the images.
            template: how images are called otherwise, as in ``ReadOptions.name_template``.
            first_number: see :class:`Video`.
            fps: see :class:`Video`.
            numbered: see :class:`Video`.
            may_share: whether ``file_names`` may be those of another video too, because one file
                tells all of them, relative to one folder.

        Raises:
            AnnotationError: if the name is taken or leads outside, the video is too long, or
                another video has an image of the same name.
        """
        name = place.relative_path(name, 'video name')
        if name in self._drafts:
            place.fail(f'a second video is called {name!r}; names must differ, rename one')
        if numbers is None:
            found = numbers_in(file_names or ())
            numbered = found is not None
            numbers = range(len(file_names or ())) if found is None else found
        if not 0 < len(numbers) <= self.options.max_frames:
            place.fail(
                f'video {name!r} has {len(numbers)} frames, expected 1 to '
                f'{self.options.max_frames}; if that is right, allow it with --max-frames'
            )
        names = self._file_names(name, numbers, place, file_names, template)
        if not may_share or self.options.name_template:
            refuse_shared(name, names, self._owners, place)
        width, height = self._size(size, place)
        video = Video(
            name=name,
            file_names=names,
            numbers=tuple(numbers),
            width=width,
            height=height,
            first_number=first_number,
            fps=fps,
            numbered=numbered,
        )
        self._drafts[name] = VideoDraft(video, self)
        return self._drafts[name]

    def _size(
        self, told: tuple[int | None, int | None], place: Place
    ) -> tuple[int | None, int | None]:
        """Width and height, the user's where the source has none."""
        width, height = (
            side or own for side, own in zip(told, self.options.size or (None, None), strict=True)
        )
        for side in (width, height):
            if side is not None and not 0 < side <= MAX_SIDE:
                place.fail(f'a frame of {width} x {height} pixels; sides are 1 to {MAX_SIDE}')
        return width, height

    def _file_names(
        self,
        video: str,
        numbers: Sequence[int],
        place: Place,
        own: Sequence[str] | None,
        template: str,
    ) -> tuple[str, ...]:
        """Checked names of all images: by the user's template, the source's own, or by default."""
        names = own
        if own is None or self.options.name_template:
            template = self.options.name_template or template
            stems = map(str, numbers) if own is None else (Path(old).stem for old in own)
            names = [
                template.format(video=video, frame=number, stem=stem)
                for number, stem in zip(numbers, stems, strict=True)
            ]
        checked = tuple(place.relative_path(name, 'file name') for name in names or ())
        twice = next((name for name, count in Counter(checked).items() if count > 1), None)
        if twice is not None:
            place.fail(f'two frames of video {video!r} are called {twice!r}; each needs its own')
        return checked

    def count_box(self, place: Place) -> None:
        """Counts a box against the limit that keeps memory in bounds."""
        self._boxes += 1
        if self._boxes > MAX_BOXES:
            place.fail(f'more than {MAX_BOXES} boxes; import the source in parts')

    def finish(self, classes: Sequence[str] = ()) -> BoxSet:
        """The set, with the classes that the source declares ahead of others."""
        videos = tuple(draft.finish() for draft in self._drafts.values())
        used = (track.label for video in videos for track in video.tracks)
        return BoxSet(videos, tuple(dict.fromkeys((*classes, *used))), dict(self._notes))


class VideoDraft:
    """A video that is being read; see :class:`Collector`."""

    def __init__(self, video: Video, collector: Collector) -> None:
        self.video = video
        self._collector = collector
        self._labels: dict[str, Counter[str]] = {}
        self._boxes: dict[str, dict[int, Box]] = {}
        self._occlusion: dict[str, dict[int, OcclusionLevel]] = {}
        self._masks: dict[str, dict[int, dict[str, Any]]] = {}
        self._scores: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self.video.numbers)

    def add(
        self,
        key: object,
        label: str,
        position: int,
        box: Box,
        place: Place,
        *,
        occlusion: OcclusionLevel | None = None,
        mask: dict[str, Any] | None = None,
        score: float | None = None,
    ) -> None:
        """Adds the box of an object in one frame.

        Args:
            key: identity of the object within the video.
            label: its class.
            position: of the frame in the video, from 0.
            box: x, y, w, h. One without area is left out and noted.
            place: where it stands.
            occlusion: level, if known.
            mask: run-lengths, if kept.
            score: of a result; a track has the mean of its frames.

        Raises:
            AnnotationError: if the frame is not in the video, the box is no box, or the object
                has another box there.
        """
        key = str(key)
        if not 0 <= position < len(self):
            place.fail(f'frame {position} of a video of {len(self)} frames, counted from 0')
        if not self.has_area(box, place):
            return
        boxes = self._boxes.setdefault(key, {})
        if position in boxes:
            place.fail(
                f'object {key!r} has a second box in frame {self.video.numbers[position]}; an '
                'object has at most one box a frame'
            )
        self._collector.count_box(place)
        boxes[position] = box
        self._labels.setdefault(key, Counter())[label] += 1
        if occlusion is not None:
            self._occlusion.setdefault(key, {})[position] = occlusion
        if mask is not None:
            self._masks.setdefault(key, {})[position] = mask
        if score is not None:
            self._scores.setdefault(key, []).append(score)

    def has_area(self, box: Box, place: Place) -> bool:
        """Whether a box has an area; notes it if it has none.

        Raises:
            AnnotationError: if it is no box.
        """
        # comparisons with NaN are false
        if not all(-MAX_NUMBER <= value <= MAX_NUMBER for value in box):
            place.fail(f'box (x, y, w, h) {box}: numbers must lie within ±{MAX_NUMBER:g}')
        if box[2] < 0 or box[3] < 0:
            place.fail(f'box (x, y, w, h) {box}: width and height must not be negative')
        if box[2] == 0 or box[3] == 0:
            self._collector.note('boxes without area left out')
            return False
        return True

    def finish(self) -> Video:
        """The video with its tracks, in the order in which they were met."""
        tracks = []
        for key, boxes in self._boxes.items():
            labels = self._labels.get(key)
            if not labels:
                continue
            if len(labels) > 1:
                self._collector.note('objects of changing class given the most frequent one')
            tracks.append(
                Track(
                    key=key,
                    label=labels.most_common(1)[0][0],
                    boxes=boxes,
                    occlusion=self._occlusion.get(key, {}),
                    masks=self._masks.get(key, {}),
                    score=fmean(self._scores[key]) if key in self._scores else None,
                )
            )
        return dataclasses.replace(self.video, tracks=tuple(tracks))
