from __future__ import annotations

import mmcv
import pytest
from PIL import Image

from mmboxvis.datasets.image_size import image_size
from mmboxvis.files import FrameError


@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8])
@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.mpo', 'a.webp'])
def test_the_size_is_that_of_the_decoded_image(tmp_path, name, orientation):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    images = [Image.new('RGB', (60, 40)) for _ in range(2)]
    more = dict(save_all=True, append_images=images[1:]) if name == 'a.mpo' else {}
    images[0].save(tmp_path / name, exif=exif, **more)
    height, width = mmcv.imread(tmp_path / name).shape[:2]
    assert image_size(tmp_path / name) == (width, height)


def test_files_that_are_no_images(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone'):
        image_size(tmp_path / 'gone.jpg')
    for content in (b'', b'text'):
        (tmp_path / 'a.jpg').write_bytes(content)
        with pytest.raises(FrameError, match=r'a\.jpg: not an image'):
            image_size(tmp_path / 'a.jpg')
