"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

StrPath = str | os.PathLike[str]


@contextmanager
def whole_file(path: StrPath) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` that takes its place when the block succeeds.

    The temporary name keeps the suffix, by which encoders choose the format. If the block
    raises, the temporary file is removed and what stood at ``path`` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_files(
    root: StrPath, names: Sequence[str] = (), *, overwrite: bool, last: str | None = None
) -> Iterator[Path]:
    """Lends a folder to write files into, and moves all of them below ``root`` on success.

    If the block raises, nothing below ``root`` has changed.

    Args:
        root: made if it is missing.
        names: the files that will be written, as far as they are known: relative paths.
        overwrite: whether these may be replaced.
        last: the file to be moved after all others, so that it tells that they are there.

    Raises:
        FileExistsError: before anything is written, if one of ``names`` exists already.
    """
    root = Path(root)
    found = next((name for name in names if (root / name).exists()), None)
    if found is not None and not overwrite:
        raise FileExistsError(
            f'{root / found} exists already; choose another folder or allow it with --overwrite'
        )
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f'.draft-{uuid.uuid4().hex}'
    try:
        draft.mkdir()
        for name in names:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
        yield draft
        written = [path.relative_to(draft) for path in draft.rglob('*') if path.is_file()]
        for path in sorted(written, key=lambda path: (str(path) == last, path)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft / path, root / path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
