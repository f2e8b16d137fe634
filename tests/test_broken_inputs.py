"""What users hand in by mistake or with intent: each ends in one message that names the culprit."""

from __future__ import annotations

import argparse
import copy
import functools
import importlib.util
import io
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mmboxvis import _cli
from mmboxvis.apis.official import read_checkpoint, read_ours
from mmboxvis.apis.sources import open_source
from mmboxvis.datasets import BoxVideo
from mmboxvis.evaluation import check_submission
from mmboxvis.evaluation.functional import evaluate_vis
from tests.fuzz import RESULTS, YTVIS

ROOT = Path(__file__).resolve().parents[1]
NAN, INF = float('nan'), float('inf')
IMAGE = cv2.GaussianBlur(
    np.random.default_rng(0).integers(0, 255, (8, 10, 3)).astype(np.uint8), (3, 3), 0
)
JPEG = cv2.imencode('.jpg', IMAGE)[1].tobytes()
PNG = cv2.imencode('.png', IMAGE)[1].tobytes()


class Code:
    """Would make a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(name, content)
    return file.getvalue()


def at(*keys: Any, value: Any) -> Callable[[Any], None]:
    """A change of one place of a json."""

    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def video(**values: Any) -> Callable[[Any], None]:
    return lambda content: content['videos'][0].update(values)


def annotation(**values: Any) -> Callable[[Any], None]:
    return lambda content: content['annotations'][0].update(values)


def box(value: Any) -> Callable[[Any], None]:
    return annotation(bboxes=[value, None])


def mask(value: Any) -> Callable[[Any], None]:
    return annotation(segmentations=[value, None])


# ------------------------------------------------------------------ how each kind is read


def write(path: Path, content: Any, good: Any = None) -> None:
    """Bytes, text, a json, or a change of a good json; ``None`` writes nothing."""
    if callable(content):
        change, content = content, copy.deepcopy(good)
        change(content)
    if content is None:
        return
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ('walk/0.jpg', 'walk/1.jpg', 'run/0.jpg'):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    return tmp_path / 'images'


def data_set(path: Path, images: Path, **settings: Any) -> BoxVideo:
    pipeline = [dict(type='LoadClipFrames'), dict(type='LoadClipAnnotations')]
    return BoxVideo(str(path), img_root=str(images), pipeline=pipeline, **settings)


def read_annotations(path: Path, images: Path) -> None:
    data_set(path, images)


def read_masks(path: Path, images: Path) -> None:
    dataset = data_set(path, images, box_source='mask', clip=dict(num_frames=2, frame_range=1))
    dataset[0]


def score(path: Path, _: Path) -> None:
    problems = check_submission(path, YTVIS)
    with pytest.raises((ValueError, OSError)) as error:
        evaluate_vis(YTVIS, path)
    assert problems, f'accepted by the checker: {error.value}'
    raise ValueError('\n'.join([*problems, str(error.value)]))


def score_against(path: Path, _: Path) -> None:
    evaluate_vis(path, [])


def decode_video(path: Path, _: Path) -> None:
    for _frame in open_source(path).frames():
        pass


def load_config(path: Path, _: Path) -> None:
    parser = argparse.ArgumentParser()
    _cli.add_common_arguments(parser)
    _cli.load_config(parser.parse_args([str(path)]))


def load_options(path: Path, _: Path) -> None:
    """The file holds the option."""
    parser = argparse.ArgumentParser()
    _cli.add_common_arguments(parser)
    config = str(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
    _cli.load_config(parser.parse_args([config, '--cfg-options', path.read_text()]))


READ: dict[str, tuple[str, Callable[[Path, Path], Any], Any]] = {
    'json': ('a.json', read_annotations, YTVIS),
    'masks': ('a.json', read_masks, YTVIS),
    'results': ('results.json', score, RESULTS),
    'truth': ('truth.json', score_against, YTVIS),
    'video': ('a.mp4', decode_video, None),
    'ours': ('a.pth', lambda path, _: read_ours(path), None),
    'official': ('a.pkl', lambda path, _: read_checkpoint(path), None),
    'config': ('a.py', load_config, None),
    'option': ('option.txt', load_options, None),
}

NOT_JSON = 'not valid json'
BROKEN: list[tuple[str, Any, str]] = [
    # annotation files
    ('json', None, 'annotation file .*a.json not found'),
    ('json', b'', NOT_JSON),
    ('json', b'\xff\xfe\xff garbage', NOT_JSON),
    ('json', '{"videos": [', f'{NOT_JSON}.*written completely'),
    ('json', '[' * 100_000, 'nested too deeply'),
    ('json', '{"videos": ' + '9' * 5000 + '}', NOT_JSON),
    ('json', '[]', 'expected a json object with videos'),
    ('json', '"text"', 'expected a json object with videos'),
    ('json', at('videos', value=None), "expected a list 'videos'"),
    ('json', at('videos', value=[7]), r'videos\[0\]: expected an object, got 7'),
    ('json', at('videos', value=[]), 'video_id 1 is not among the videos'),
    ('json', at('videos', 1, 'id', value=1), 'video id 1 is used twice'),
    ('json', video(id='1'), "'id' must be a whole number, got '1'"),
    ('json', video(id=True), "'id' must be a whole number, got True"),
    ('json', video(id=10**30), "'id' must be a whole number"),
    ('json', video(width=NAN), "video 1: 'width' must be a positive number of pixels"),
    ('json', video(width=INF), "video 1: 'width' must be a positive number"),
    ('json', video(height=-8), "video 1: 'height' must be a positive number"),
    ('json', video(height=10**9), "video 1: 'height' must be a positive number"),
    ('json', video(height='8'), "video 1: 'height' must be a positive number"),
    ('json', video(file_names='walk'), "video 1: 'file_names' must be a list"),
    ('json', video(file_names=[]), "video 1: 'file_names' must be a list of at least one"),
    ('json', video(file_names=['walk/0.jpg'] * 2), "lists 'walk/0.jpg' twice"),
    ('json', video(file_names=['../x.jpg', 'a']), r"video 1: 'file_names'\[0\].*leads out"),
    ('json', video(file_names=['/etc/passwd', 'a']), 'leads out of the image folder'),
    ('json', video(file_names=['a', 'b/../../x.jpg']), r"'file_names'\[1\].*leads out"),
    ('json', video(file_names=['C:\\x.jpg', 'a']), 'path of Windows'),
    ('json', video(file_names=['a\0.jpg', 'a']), 'control characters'),
    ('json', video(file_names=['x' * 300, 'a']), 'too long'),
    ('json', video(file_names=['a', '\ud800.jpg']), r"video 1: 'file_names'\[1\].*half a char"),
    ('json', video(file_names=['gone.jpg', 'a']), 'frame 0: .*gone.jpg not found'),
    ('json', video(file_names=['walk', 'a']), 'frame 0: .*walk not found'),
    ('json', video(length=9), "'length' is 9, but 'file_names' has 2"),
    ('json', at('categories', value={}), "expected a list 'categories'"),
    ('json', at('categories', 1, 'id', value=1), 'is used twice'),
    ('json', at('categories', 1, 'name', value='cat'), 'is used twice'),
    ('json', at('categories', 1, 'name', value=['dog']), "'name' must be text"),
    ('json', at('annotations', value=None), 'has no annotations'),
    ('json', at('annotations', value=[]), 'no video is left'),
    ('json', at('annotations', 1, 'id', value=1), 'annotation 1: id is used twice'),
    ('json', annotation(video_id=9), 'video_id 9 is not among the videos'),
    ('json', annotation(category_id=9), 'category_id 9 is not among the categories'),
    ('json', annotation(category_id=1.0), "'category_id' must be a whole number"),
    ('json', annotation(iscrowd='0'), "'iscrowd' must be 0 or 1, got '0'"),
    ('json', annotation(bboxes=None), "has no list 'bboxes'"),
    ('json', annotation(bboxes=[[1, 1, 4, 4]]), "'bboxes' has 1 entries, but the video has 2"),
    # boxes
    *(
        ('json', box(value), r'annotation 1, frame 0, field bboxes: .*expected \[x')
        for value in (
            [NAN, 1, 4, 4], [1, 1, INF, 4], [1, 1, 4], [1, 1, 4, 4, 4], ['1', '1', '4', '4'],
            [True, 1, 4, 4], [None, 1, 4, 4], [[1], 1, 4, 4], [10**400, 1, 4, 4], [1e300, 1, 4, 4],
            'text', 7, {'x': 1}, [],
        )
    ),
    ('json', box([1, 1, -4, 4]), 'frame 0, field bboxes: width and height must be positive'),
    ('json', box([1, 1, 0, 4]), 'frame 0, field bboxes: the box .* has no area'),
    # masks
    ('masks', mask(dict(size=[9, 10], counts=[90])), r'mask of size \[9, 10\]'),
    ('masks', mask(dict(size=7, counts=[80])), 'frame 0, field segmentations: mask of size 7'),
    ('masks', mask(dict(size=[8, 10], counts='P')), 'broken or cut off'),
    ('masks', mask(dict(size=[8, 10], counts='0')), 'covers 0 of 80 pixels'),
    ('masks', mask(dict(size=[8, 10], counts=[-5, 85])), 'whole numbers of pixels'),
    ('masks', mask(dict(size=[8, 10])), 'frame 0, field segmentations: .*expected null'),
    ('masks', mask([[NAN, 1, 5, 1, 5, 5]]), 'coordinates of a polygon'),
    ('masks', mask([[1e9, 1, 5, 1, 5, 5]]), 'coordinates of a polygon'),
    ('masks', mask([[1, 1, 5, 5]]), 'at least six numbers'),
    ('masks', mask('text'), "expected a run-length.* got 'text'"),
    ('masks', mask([]), 'null where the instance is not seen'),
    ('masks', annotation(segmentations=None), "has no list 'segmentations'"),
    # results
    ('results', None, 'no such file'),
    ('results', b'', NOT_JSON),
    ('results', '[' * 100_000, 'nested too deeply'),
    ('results', '{}', 'expected a list of tracks'),
    ('results', zipped('other.txt', b''), 'expected results.json in the archive'),
    ('results', zipped('results.json', b'[' * 100)[:-30], 'archive|not valid json'),
    ('results', at(0, value=7), r'\[0\]: expected an object'),
    ('results', at(0, 'video_id', value=9), "'video_id': 9 is no video"),
    ('results', at(0, 'video_id', value=[1]), "'video_id'"),
    ('results', at(0, 'video_id', value=10**400), r"'video_id': 10{79}\.\.\. is no video"),
    ('results', at(0, 'category_id', value=True), "'category_id': expected a whole number"),
    ('results', at(0, 'score', value=NAN), "'score': expected a finite number"),
    ('results', at(0, 'score', value=10**400), r"'score': expected a finite number, got 10{79}\."),
    ('results', at(0, 'segmentations', value=[None]), '1 frames, but video 1'),
    ('results', at(0, 'segmentations', 0, value=7), r'segmentations\[0\]: expected null'),
    ('results', at(0, 'segmentations', 0, 'size', value=[10, 8]), r"'size': \[10, 8\]"),
    ('results', at(0, 'segmentations', 0, 'counts', value='oo'), "'counts' is broken"),
    ('results', at(0, 'segmentations', 0, 'counts', value='5M3;0'), "'counts' is broken"),
    ('results', at(0, 'segmentations', 0, 'counts', value='1'), 'describes 1 pixels'),
    # ground truth
    ('truth', '[]', "expected an object with 'videos'"),
    ('truth', at('categories', value=5), "'categories' must be a list"),
    ('truth', at('annotations', value={}), "'annotations' must be a list"),
    ('truth', at('annotations', value=[7]), r'annotations\[0\]: expected an object'),
    ('truth', video(file_names=5), "'file_names' must be a list"),
    ('truth', video(width=INF), "'width' must be a positive whole number"),
    ('truth', annotation(areas=['x', None]), r'areas\[0\]: expected null or a number'),
    ('truth', annotation(occlusion=[[], None]), 'unknown occlusion level'),
    ('truth', annotation(iscrowd='no'), "'iscrowd' must be 0 or 1"),
    ('truth', mask([[1e9, 1, 5, 1, 5, 5]]), r'segmentations\[0\]: coordinates of a polygon'),
    # video files
    ('video', None, 'no such file'),
    ('video', b'', 'cannot be opened as a video'),
    ('video', b'garbage' * 1000, 'cannot be opened as a video'),
    ('video', JPEG[:100], 'cannot be opened as a video|decoding broke off behind frame 0'),
    # checkpoints
    ('ours', None, 'no checkpoint at'),
    ('ours', b'', 'no readable checkpoint'),
    ('ours', b'garbage' * 100, 'no readable checkpoint'),
    ('ours', saved(dict(state_dict={'student.a': torch.zeros(9)}))[:200], 'no readable checkpoint'),
    ('ours', saved([1, 2]), 'no checkpoint of ours'),
    ('ours', saved({}), 'no checkpoint of ours'),
    ('ours', saved(dict(state_dict={'backbone.a': torch.zeros(2)})), 'no checkpoint of ours'),
    ('ours', saved(dict(state_dict={}, meta=Code(Path('code_ran')))), 'no readable checkpoint'),
    ('official', b'', 'no readable checkpoint'),
    ('official', pickle.dumps(dict(model=Code(Path('code_ran')))), 'no readable'),
    ('official', pickle.dumps(dict(model=np.zeros(3)))[:-20], 'no readable checkpoint'),
    ('official', pickle.dumps([1, 2]), 'no dict of tensors'),
    ('official', pickle.dumps(dict(model=dict(a='text'))), 'something else than tensors'),
    # configs
    ('config', None, 'there is no config'),
    ('config', 'model = dict(\n', "a.py, line 1: .*never closed"),
    ('config', b'model = \xff\xfe', 'a.py'),
    ('config', 'x = 1\n', 'defines no model'),
    ('config', 'model = dict(type=UNKNOWN)\n', 'cannot be read: NameError'),
    ('config', '_base_ = ["gone.py"]\nmodel = dict()\n', 'cannot be read'),
    ('option', 'trian_cfg.max_iters=3', "no setting 'trian_cfg'; did you mean 'train_cfg'"),
    ('option', 'nonsense=3', "no setting 'nonsense'"),
    ('option', 'param_scheduler.9.end=3', '--cfg-options'),
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ('kind', 'content', 'message'),
    BROKEN,
    ids=[f'{i}-{case[0]}' for i, case in enumerate(BROKEN)],
)
def test_one_message_that_names_the_culprit(
    kind: str, content: Any, message: str, tmp_path: Path, images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    name, read, good = READ[kind]
    path = tmp_path / name
    write(path, content, good)
    before = {p for p in tmp_path.rglob('*')}
    with pytest.raises((ValueError, OSError, _cli.UsageError), match=message):
        read(path, images)
    assert {p for p in tmp_path.rglob('*')} == before, 'a refused file had something written'


BROKEN_IMAGES: list[tuple[str, Callable[[Path], Any]]] = [
    ('not found', Path.unlink),
    ('is empty, or not an image', lambda path: path.write_bytes(b'')),
    ('is not an image', lambda path: path.write_bytes(b'garbage' * 50)),
    ('is not an image', lambda path: path.write_bytes(JPEG[: len(JPEG) // 2])),
    ('is not an image', lambda path: path.write_bytes(JPEG[:-3])),
    ('is not an image', lambda path: path.write_bytes(PNG[: len(PNG) // 2])),
    ('no file but a folder', lambda path: (path.unlink(), path.mkdir())),
    ('no file but a folder, a device or a broken link',
     lambda path: (path.unlink(), path.symlink_to('gone'))),
    ('link that leads out', lambda path: (path.unlink(), path.symlink_to(ROOT / 'README.md'))),
    ('expected 8x10', lambda path: path.write_bytes(cv2.imencode('.png', IMAGE[:4])[1].tobytes())),
]  # fmt: skip


@pytest.mark.parametrize(('message', 'harm'), BROKEN_IMAGES)
def test_frames_are_named_or_skipped(
    message: str, harm: Callable[[Path], Any], tmp_path: Path, images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    harm(images / 'walk/1.jpg')
    path = tmp_path / 'a.json'
    write(path, YTVIS)
    clip = dict(num_frames=4, frame_range=1)
    with pytest.raises(OSError, match=f"video 'walk', frame 1: .*{message}"):
        data_set(path, images, clip=clip)[0]
    logged: list[str] = []
    monkeypatch.setattr(
        'mmboxvis.datasets.box_video.print_log', lambda text, **_: logged.append(text)
    )
    dataset = data_set(path, images, clip=clip, on_error='skip')
    assert dataset[0]['video_name'] == 'run'
    assert dataset.num_skipped == len(logged) >= 1
    assert "video 'walk', frame 1" in logged[0]


@functools.cache
def tool(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / 'tools' / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # tools import from their own folder
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'tools' / Path(path).parent))
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
    return module


TOOLS: list[tuple[str, list[str]]] = [
    ('misc/check_dataset.py', ['BROKEN']),
    ('misc/check_submission.py', ['BROKEN', 'GOOD']),
    ('misc/check_submission.py', ['GOOD', 'BROKEN']),
    ('analysis_tools/eval_results.py', ['GOOD', 'BROKEN']),
    ('analysis_tools/eval_results.py', ['BROKEN', 'GOOD']),
    ('model_converters/from_official.py', ['BROKEN', 'OUT']),
    ('dataset_converters/import_boxes.py', ['BROKEN', '--from', 'mot', '--out', 'OUT']),
    ('dataset_converters/import_boxes.py', ['BROKEN', '--from', 'coco-vid', '--out', 'OUT']),
    ('dataset_converters/import_boxes.py', ['BROKEN', '--from', 'cvat-video', '--out', 'OUT']),
    ('dataset_converters/build_bvisd.py', ['--ovis', 'BROKEN', '--out', 'OUT', '--quiet']),
    ('infer.py', ['IMAGES', '--checkpoint', 'BROKEN', '--out', 'OUT']),
    ('boxes_to_masks.py', ['GOOD', 'IMAGES', '--checkpoint', 'BROKEN', '--out', 'OUT']),
]
CONTENTS: dict[str, bytes | None] = {
    'missing': None,
    'empty': b'',
    'garbage': bytes(range(256)) * 20,
    'nested': b'[' * 100_000,
    'list': b'[1, null, "x", NaN]',
    'folder': b'FOLDER',
}


@pytest.mark.parametrize('content', CONTENTS)
@pytest.mark.parametrize(('name', 'arguments'), TOOLS, ids=[f'{n}-{a[0]}' for n, a in TOOLS])
def test_tools_fail_in_one_line_and_write_nothing(
    name: str, arguments: list[str], content: str, tmp_path: Path, images: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken, good, out = tmp_path / 'broken', tmp_path / 'good.json', tmp_path / 'out'
    if content == 'folder':
        broken.mkdir()
    else:
        write(broken, CONTENTS[content])
    write(good, YTVIS)
    paths = dict(BROKEN=broken, GOOD=good, OUT=out, IMAGES=images)
    try:
        code = tool(name).main([str(paths.get(argument, argument)) for argument in arguments])
        told = ''.join(capsys.readouterr())
    except SystemExit as exit_:
        code, told = 1, str(exit_.code)
    assert code == 1
    assert 'Traceback' not in told and str(broken) in told
    assert len(told) < 3000
    assert not out.exists() or not any(out.iterdir()), 'something was left in the output'
    shutil.rmtree(images)


@pytest.mark.parametrize('name', ['analysis_tools/benchmark_fps.py', 'deployment/export_onnx.py'])
def test_tools_run_no_code_of_a_checkpoint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [str(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py'), 'evil.pth']
    if name == 'deployment/export_onnx.py':
        for needed in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(needed, reason='the extra "onnx" is not installed')
        options += ['--out', 'out']
    torch.save(dict(state_dict={}, meta=Code(tmp_path / 'code_ran')), 'evil.pth')
    with pytest.raises(SystemExit) as caught:
        tool(name).main(options)
    assert 'evil.pth' in str(caught.value.code)
    assert not (tmp_path / 'code_ran').exists()


def test_checkpoints_are_loaded_by_our_own_readers_alone() -> None:
    """mmengine's reader runs code of a file that it cannot read otherwise."""
    readers = {'mmboxvis/engine/checkpoint_files.py', 'mmboxvis/apis/official.py'}
    for folder in ('mmboxvis', 'tools'):
        for file in sorted((ROOT / folder).rglob('*.py')):
            text, name = file.read_text(encoding='utf-8'), file.relative_to(ROOT).as_posix()
            assert 'import load_checkpoint' not in text, name
            for line in text.splitlines():
                if 'torch.load(' in line and name not in readers:
                    assert 'weights_only=True' in line, f'{name}: {line}'
