"""The size of an image file as it is decoded, without decoding it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from mmboxvis.files import FrameError

_EXIF_ORIENTATION, _EXIF_TURNED = 0x0112, (5, 6, 7, 8)
# of these OpenCV heeds the orientation; phones write MPO, a JPEG with further pictures behind it
_ORIENTED = ('JPEG', 'MPO', 'PNG')


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image as it is decoded: turned where EXIF says so.

    Only the head of the file is read.

    Raises:
        FileNotFoundError: if it is missing.
        FrameError: if it is no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # asked without this, PIL decodes a PNG to look for it behind the pixels
            known = image.format in _ORIENTED and 'exif' in image.info
            turned = known and image.getexif().get(_EXIF_ORIENTATION) in _EXIF_TURNED
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FrameError(f'{path}: not an image: {error}') from error
    return (height, width) if turned else (width, height)
