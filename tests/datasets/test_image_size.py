from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmboxvis.datasets import BoxVideo
from mmboxvis.datasets.image_size import image_size
from mmboxvis.datasets.video_frames import read_frame
from mmboxvis.files import FrameError


def save(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = dict(save_all=True) if path.suffix == '.mpo' else {}
    Image.new('RGB', (200, 100)).save(path, exif=exif, **more)
    return path


@pytest.mark.parametrize('orientation', range(10))
@pytest.mark.parametrize('suffix', ['jpg', 'mpo', 'png', 'webp', 'tif', 'bmp'])
def test_is_that_of_the_decoded_frame(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = save(tmp_path / f'x.{suffix}', orientation)
    height, width = read_frame(path).shape[:2]
    assert image_size(path) == (width, height)


@pytest.mark.parametrize(
    'exif', [b'', b'Exif\0\0', b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12', b'x' * 99]
)
def test_broken_exif(tmp_path: Path, exif: bytes) -> None:
    Image.new('RGB', (200, 100)).save(tmp_path / 'x.jpg', exif=exif)
    height, width = read_frame(tmp_path / 'x.jpg').shape[:2]
    assert image_size(tmp_path / 'x.jpg') == (width, height) == (200, 100)


def test_no_image(tmp_path: Path) -> None:
    for content in (b'', b'no image'):
        (tmp_path / 'x.jpg').write_bytes(content)
        with pytest.raises(FrameError, match=r'x\.jpg is not an image'):
            image_size(tmp_path / 'x.jpg')
    with pytest.raises(FileNotFoundError, match='gone'):
        image_size(tmp_path / 'gone.jpg')


def test_turned_videos_without_a_size(tmp_path: Path, write_json: Any) -> None:
    """A box in the lower half of a frame that is higher than wide."""
    save(tmp_path / '0.jpg', 6)
    boxes = [[10, 150, 50, 40]]
    path = write_json(
        dict(
            videos=[dict(id=1, name='v', file_names=['0.jpg'])],
            categories=[dict(id=1, name='dog')],
            annotations=[dict(id=1, video_id=1, category_id=1, bboxes=boxes)],
        )
    )
    info = BoxVideo(path, img_root=str(tmp_path)).get_data_info(0)
    assert (info['width'], info['height']) == (100, 200)
    assert info['instances'].boxes.tolist() == [[[10, 150, 60, 190]]]
