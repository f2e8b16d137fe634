"""Reading of sources, and what all formats share: real files, a loader, the tool."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from mmboxvis.datasets import BoxVideo
from mmboxvis.datasets.importers import READERS, BoxSet, ReadOptions, to_ytvis

ROOT = Path(__file__).resolve().parents[3]
Boxes = dict[int, tuple[float, float, float, float]]


@pytest.fixture(scope='session')
def formats() -> Path:
    """Folder with annotation files that other people made."""
    folder = Path(os.environ.get('MMBOXVIS_FORMATS', ROOT.parent / 'shared' / 'formats'))
    if not folder.is_dir():
        pytest.skip(f'annotation files of others not found at {folder}; set MMBOXVIS_FORMATS')
    return folder


@pytest.fixture
def read() -> Callable[..., BoxSet]:
    def run(name: str, source: Path, **options: Any) -> BoxSet:
        return READERS[name].read(source, ReadOptions(**options))

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes text, bytes or json under a name and gives the path."""

    def run(name: str, content: Any) -> Path:
        path = tmp_path / 'source' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return run


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., BoxVideo]:
    """The set as training sees it: written, and loaded with a first image for each video.

    The image has the size that is given, where the set has none.
    """

    def run(boxes: BoxSet, size: tuple[int, int] = (64, 48)) -> BoxVideo:
        content = to_ytvis(boxes)
        for video in content['videos']:
            path = tmp_path / 'images' / video['file_names'][0]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (video.get('width', size[0]), video.get('height', size[1]))).save(path)
        (tmp_path / 'boxes.json').write_text(json.dumps(content))
        return BoxVideo(str(tmp_path / 'boxes.json'), img_root=str(tmp_path / 'images'))

    return run


@pytest.fixture(scope='session')
def tool() -> ModuleType:
    path = ROOT / 'tools' / 'dataset_converters' / 'import_boxes.py'
    spec = importlib.util.spec_from_file_location('import_boxes', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cvat_xml(
    tracks: str,
    *,
    name: str = 'walk',
    size: object = 10,
    start: object = 0,
    rule: str = '',
    head: str = '',
) -> str:
    """A task of CVAT with a frame of 100 x 80."""
    return (
        f'<?xml version="1.0"?>{head}<annotations><meta><task><id>1</id><name>{name}</name>'
        f'<size>{size}</size><start_frame>{start}</start_frame><frame_filter>{rule}</frame_filter>'
        '<labels><label><name>cat</name></label><label><name>dog</name></label></labels>'
        '<original_size><width>100</width><height>80</height></original_size></task></meta>'
        f'{tracks}</annotations>'
    )


def cvat_box(frame: object, box: tuple[object, object, object, object], **flags: object) -> str:
    """A box element; xtl, ytl, xbr, ybr."""
    names = dict(zip(('xtl', 'ytl', 'xbr', 'ybr'), box, strict=True), frame=frame, **flags)
    return '<box ' + ' '.join(f'{key}="{value}"' for key, value in names.items()) + '/>'


@pytest.fixture
def cvat() -> Callable[..., str]:
    return cvat_xml


@pytest.fixture
def box() -> Callable[..., str]:
    return cvat_box
