"""Pictures that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmboxvis.files import StrPath, whole_file


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
