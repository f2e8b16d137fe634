"""Changes to a set of boxes between reading and writing: other classes, fewer frames."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from .box_set import BoxSet, Video, refuse_shared
from .place import AnnotationError, Place, read_json, read_yaml, shown


def read_class_map(path: Path) -> dict[str, str | None]:
    """Loads a json or yaml table from class names of a source to ours, null to drop a class.

    Raises:
        AnnotationError: if it is no such table.
    """
    place = Place(path)
    content = read_json(path) if path.suffix == '.json' else read_yaml(path)
    for name, goal in place.table(content, 'the class map').items():
        if not isinstance(name, str) or not (
            goal is None or (isinstance(goal, str) and goal.strip())
        ):
            place.fail(
                f'{shown(name)}: {shown(goal)}: expected a class name and the name it becomes, or '
                'null to drop it; quote names such as yes, no and 1'
            )
    return {
        name: None if goal is None else place.text(goal, f'the name that {shown(name)} becomes')
        for name, goal in content.items()
    }


def map_classes(boxes: BoxSet, class_map: Mapping[str, str | None]) -> BoxSet:
    """Renames, joins or drops classes.

    Args:
        boxes: the set.
        class_map: class of the source to the class that it becomes, or to ``None`` to drop its
            objects. ``'*'`` stands for all classes that are not named; without it they stay. New
            classes come in the order of the map.

    Raises:
        AnnotationError: if no class is left.
    """
    new = {name: class_map.get(name, class_map.get('*', name)) for name in boxes.classes}
    reached = set(new.values())
    ordered = [goal for goal in (*class_map.values(), *new.values()) if goal in reached]
    classes = tuple(dict.fromkeys(goal for goal in ordered if goal is not None))
    if boxes.classes and not classes:
        raise AnnotationError(
            f'the class map drops all classes of the source, which are {list(boxes.classes)}'
        )
    notes = dict(boxes.notes)
    for name in class_map:
        if name not in new and name != '*':
            notes[f'class {name!r} of the class map is not in the source'] = 1
    videos = []
    for video in boxes.videos:
        tracks = []
        for track in video.tracks:
            goal = new[track.label]
            if goal is None:
                what = f'objects of class {track.label!r} dropped by the class map'
                notes[what] = notes.get(what, 0) + 1
            else:
                tracks.append(dataclasses.replace(track, label=goal))
        videos.append(dataclasses.replace(video, tracks=tuple(tracks)))
    return BoxSet(tuple(videos), classes, notes)


def thin(boxes: BoxSet, every: int) -> BoxSet:
    """Keeps the first of each ``every`` frames."""
    videos = tuple(video.take(range(0, len(video.numbers), every)) for video in boxes.videos)
    return dataclasses.replace(boxes, videos=videos)


def thin_to_rate(boxes: BoxSet, fps: float, rates: Sequence[float]) -> BoxSet:
    """Keeps ``fps`` frames a second, as evenly as whole frames allow.

    Args:
        boxes: the set.
        fps: wanted rate; a video with a lower one keeps all its frames.
        rates: rate of the annotated frames of each video.
    """
    videos = []
    for video, rate in zip(boxes.videos, rates, strict=True):
        step = max(rate / fps, 1.0)
        count = math.ceil(len(video.numbers) / step)
        # the nearest frame to each point in time; half a frame goes down
        kept = (math.ceil(index * step - 0.5) for index in range(count))
        videos.append(video.take(k for k in kept if k < len(video.numbers)))
    return dataclasses.replace(boxes, videos=tuple(videos))


def join(parts: Sequence[BoxSet]) -> BoxSet:
    """One set of several.

    Raises:
        AnnotationError: if two videos have one name, or two sources one name of an image.
    """
    videos: list[Video] = [video for part in parts for video in part.videos]
    names = [video.name for video in videos]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise AnnotationError(f'two sources have a video called {twice!r}; import one by one')
    owners: dict[str, str] = {}
    for index, part in enumerate(parts):
        found = {name: video.name for video in part.videos for name in video.file_names}
        for file_name, video_name in found.items():
            refuse_shared(video_name, [file_name], owners, Place(Path(f'source {index + 1}')))
    classes = dict.fromkeys(name for part in parts for name in part.classes)
    notes: dict[str, int] = {}
    for part in parts:
        for what, count in part.notes.items():
            notes[what] = notes.get(what, 0) + count
    return BoxSet(tuple(videos), tuple(classes), notes)
