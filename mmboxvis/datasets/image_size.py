"""The size of an image file as it is decoded, without decoding it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from mmboxvis.files import FrameError

_EXIF_ORIENTATION, _EXIF_TURNED = 0x0112, (5, 6, 7, 8)
# what OpenCV, which decodes the frames, turns as EXIF says; phones write MPO, a JPEG with further
# pictures behind it
_TURNED_BY_OPENCV = ('JPEG', 'MPO', 'PNG')


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height that an image has once it is decoded: turned where EXIF says so.

    Only the head of the file is read, so EXIF that follows the pixels of a PNG is not seen.

    Raises:
        FileNotFoundError: if it is missing.
        FrameError: if it is no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            raw = image.info.get('exif') if image.format in _TURNED_BY_OPENCV else None
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FrameError(f'{path} is not an image: {error}') from error
    return (height, width) if raw and _orientation(raw) in _EXIF_TURNED else (width, height)


def _orientation(raw: bytes) -> object:
    # not Pillow's getexif(), which decodes a PNG, and heeds XMP, which OpenCV does not
    exif = Image.Exif()
    try:
        exif.load(raw)
        return exif.get(_EXIF_ORIENTATION)
    except Exception:  # Pillow raises what it comes upon; OpenCV leaves such an image as it is
        return None
