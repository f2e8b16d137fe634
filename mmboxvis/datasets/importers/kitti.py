"""KITTI tracking: ``label_02/0001.txt``."""

from __future__ import annotations

from pathlib import Path

from .box_set import BoxSet, Collector, OcclusionLevel, ReadOptions, from_corners
from .place import read_rows, source_files

_LEVELS: dict[int, OcclusionLevel] = {
    0: 'no_occlusion',
    1: 'slight_occlusion',
    2: 'severe_occlusion',
}


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a text file of 17 columns, or all of a folder, each a video.

    A box is as wide as right less left. ``DontCare`` regions are left out. What is hidden behind
    others becomes ``occlusion``; level 3, unknown, is left open.

    Raises:
        AnnotationError: if a file is broken.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    for path in source_files(source, '.txt'):
        rows = list(read_rows(path, None))
        frames = [place.whole(cells[0], 'frame') for place, cells in rows]
        if not rows:
            collector.note('empty files left out')
            continue
        first = options.first_frame or 0
        draft = collector.video(
            path.stem,
            range(first, max(frames) + 1),
            rows[0][0],
            template='{video}/{frame:06d}.png',
            first_number=first,
        )
        for (place, cells), frame in zip(rows, frames, strict=True):
            if len(cells) not in (17, 18):
                place.fail(f'has {len(cells)} columns, expected 17, or 18 with a score')
            key = place.whole(cells[1], 'track id', -1)
            if key == -1 or cells[2] == 'DontCare':
                collector.note('DontCare regions left out')
                continue
            edges = (
                place.number(cell, name)
                for cell, name in zip(cells[6:10], ('left', 'top', 'right', 'bottom'), strict=True)
            )
            occluded = place.whole(cells[4], 'occluded', -1, 3)
            draft.add(
                key,
                place.text(cells[2], 'type'),
                frame - first,
                from_corners(*edges),
                place,
                occlusion=_LEVELS.get(occluded),
            )
    return collector.finish()
