"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

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


def write_image(path: StrPath, image: np.ndarray) -> Path:
    """Writes a BGR picture, PNG or JPEG by the suffix, whole or not at all.

    Raises:
        ValueError: OpenCV knows no encoder for the suffix.
    """
    path = Path(path)
    try:
        ok, buffer = cv2.imencode(path.suffix, image)
    except cv2.error:
        ok = False
    if not ok:
        raise ValueError(f'{path}: no encoder for suffix {path.suffix!r}; use .png or .jpg')
    with whole_file(path) as temporary:
        temporary.write_bytes(buffer.tobytes())
    return path
