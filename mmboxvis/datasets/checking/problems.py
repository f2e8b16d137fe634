"""What is wrong with an annotation file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..json_stream import Layout

Level = Literal['error', 'warning']


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault and where it is; what does not apply is ``None``.

    Attributes:
        level: ``'error'`` stops training, ``'warning'`` does not.
        what: what is wrong, and what to do.
        video: id of the video or image.
        name: its name.
        frame: position in the video, from 0.
        annotation: id of the annotation.
        field: field of the entry.
        entry: place in the file where an id cannot tell it, such as ``annotations[3]``.
        fixable: whether :func:`fix_dataset` repairs it.
    """

    level: Level
    what: str
    video: Any = None
    name: str | None = None
    frame: int | None = None
    annotation: Any = None
    field: str | None = None
    entry: str | None = None
    fixable: bool = False

    def __str__(self) -> str:
        named = '' if self.name is None else f' ({_cut(self.name)})'
        parts = [
            self.entry,
            None if self.video is None else f'video {_cut(self.video)}{named}',
            None if self.frame is None else f'frame {self.frame}',
            None if self.annotation is None else f'annotation {_cut(self.annotation)}',
            None if self.field is None else f'field {self.field}',
        ]
        where = ', '.join(part for part in parts if part is not None)
        text = f'{self.level}: {where}: {self.what}' if where else f'{self.level}: {self.what}'
        # half characters (lone surrogates), which cannot be printed, may be in a name
        return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f'{text[:80]}...'


@dataclass
class CheckReport:
    """What was found in a file.

    Attributes:
        path: the file.
        layout: YouTube-VIS (``'video'``) or COCO (``'image'``).
        problems: in the order of the file.
        counts: videos, frames, categories, annotations, objects (boxes).
    """

    path: str
    layout: Layout = 'video'
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def errors(self) -> list[Problem]:
        """Problems that stop training."""
        return [problem for problem in self.problems if problem.level == 'error']

    @property
    def warnings(self) -> list[Problem]:
        """Problems that do not."""
        return [problem for problem in self.problems if problem.level == 'warning']

    def as_dict(self) -> dict[str, Any]:
        """For writing as json."""
        return asdict(self)
