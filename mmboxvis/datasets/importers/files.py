"""Several files that appear together or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def files_at_once(root: Path, names: Sequence[str], *, overwrite: bool) -> Iterator[Path]:
    """Lends a folder to write files into, and moves them below ``root`` if the block succeeds.

    Args:
        root: made if it is missing.
        names: the files that will be written, relative paths.
        overwrite: whether files may be replaced.

    Raises:
        FileExistsError: before anything is written, if one of the files exists already.
    """
    found = next((name for name in names if (root / name).exists()), None)
    if found is not None and not overwrite:
        raise FileExistsError(
            f'{root / found} exists already; choose another folder or allow it with --overwrite'
        )
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f'.draft-{uuid.uuid4().hex}'
    try:
        for name in names:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
        yield draft
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft / name, root / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
