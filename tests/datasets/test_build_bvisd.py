from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmboxvis.datasets import BVISD
from mmboxvis.datasets.bvisd import split_training_json
from mmboxvis.datasets.bvisd_builder import FRAME_FOLDERS, build_bvisd
from mmboxvis.datasets.categories import BVISD_CLASSES, category_names, to_bvisd
from mmboxvis.datasets.json_stream import read_annotation_file
from mmboxvis.datasets.video_json import AnnotationError
from mmboxvis.registry import DATASETS

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools' / 'dataset_converters'
LENGTH = 3


def tool(path: Path = TOOLS / 'build_bvisd.py') -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_tool() -> ModuleType:
    return tool(ROOT / 'tools' / 'misc' / 'check_dataset.py')


def video_json(source: str, num_videos: int, offset: int) -> dict[str, Any]:
    """Each video has one track, of a class in turn; ids start at ``offset``."""
    names = category_names(source)  # type: ignore[arg-type]
    ids = list(names)
    mask = dict(size=[40, 60], counts=[100, 50, 2250])
    videos = [
        dict(id=offset + k, width=60, height=40, length=LENGTH,
             file_names=[f'{source}{k}/{t}.jpg' for t in range(LENGTH)])
        for k in range(num_videos)
    ]  # fmt: skip
    annotations = [
        dict(
            id=offset + k, video_id=offset + k, category_id=ids[k % len(ids)], iscrowd=0,
            length=LENGTH, bboxes=[[1, 2, 10 + k % 5, 9], None, [0, 0, 0, 0]],
            segmentations=[mask, None, None], areas=[50, None, None],
        )
        for k in range(num_videos)
    ]  # fmt: skip
    if source == 'ovis':
        for annotation in annotations:
            annotation['occlusion'] = ['no_occlusion', None, None]
    categories = [dict(id=key, name=name) for key, name in names.items()]
    return dict(videos=videos, categories=categories, annotations=annotations)


def coco_json() -> dict[str, Any]:
    """Image k has one object of the k-th category; a crowd, and an object without area."""
    names = category_names('coco')
    images = [
        dict(id=1000 + k, file_name=f'{k}.jpg', width=64, height=48) for k in range(len(names))
    ]
    annotations = [
        dict(id=k, image_id=1000 + k, category_id=key, iscrowd=0, bbox=[1.5, 2.5, 9.25, 8.0],
             area=3.5, segmentation=[[1, 1, 5, 1, 5, 5]])
        for k, key in enumerate(names)
    ]  # fmt: skip
    annotations += [
        dict(annotations[0], id=900, iscrowd=1, segmentation=dict(size=[48, 64], counts=[3072])),
        dict(annotations[0], id=901, bbox=[3, 3, 0, 4]),
    ]
    categories = [dict(id=key, name=name) for key, name in names.items()]
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    contents = dict(
        ytvis21=video_json('ytvis21', 120, 1), ovis=video_json('ovis', 60, 1), coco=coco_json()
    )
    paths = {}
    for name, content in contents.items():
        paths[name] = tmp_path / f'{name}.json'
        paths[name].write_text(json.dumps(content))
    return paths


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def load(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f'{name}.json').read_text())


def build(tmp_path: Path, files: dict[str, Path], **arguments: Any) -> Path:
    out = tmp_path / 'out'
    build_bvisd(out, **dict(files, **arguments))
    return out


TRAIN = ('ytvis21_train', 'ovis_train', 'coco_train')


def test_files_and_ids(tmp_path, files):
    out = build(tmp_path, files)
    outputs = {f'{name}.json' for name in (*TRAIN, 'ytvis21_valid', 'ovis_valid', 'bvisd_valid')}
    assert {path.name for path in out.iterdir()} == outputs | {'manifest.json'}
    parts = [load(out, name) for name in (*TRAIN, 'bvisd_valid')]
    for part in parts:
        assert [c['name'] for c in part['categories']] == list(BVISD_CLASSES)
    videos = [v['id'] for part in parts for v in part.get('videos', part.get('images'))]
    annotations = [a['id'] for part in parts for a in part['annotations']]
    assert len(set(videos)) == len(videos) and len(set(annotations)) == len(annotations)
    valid = load(out, 'bvisd_valid')
    for source in ('ytvis21', 'ovis'):
        alone = load(out, f'{source}_valid')
        same = [v for v in valid['videos'] if v['source'] == source]
        assert [v['id'] for v in alone['videos']] == [v['id'] for v in same]
        for own, joined in zip(alone['videos'], same, strict=True):
            folder = FRAME_FOLDERS[source]  # type: ignore[index]
            assert joined['file_names'] == [f'{folder}/{name}' for name in own['file_names']]
        ids = {v['id'] for v in same}
        assert alone['annotations'] == [a for a in valid['annotations'] if a['video_id'] in ids]


def test_classes_boxes_and_no_masks(tmp_path, files):
    out = build(tmp_path, files)
    for source, name in (('ytvis21', 'ytvis21_train'), ('ovis', 'ovis_train')):
        original = {a['id']: a for a in json.loads(files[source].read_text())['annotations']}
        forward = to_bvisd(source)  # type: ignore[arg-type]
        for track in load(out, name)['annotations']:
            before = original[track['source_id']]
            assert track['category_id'] == forward[before['category_id']]
            assert track['bboxes'] == [before['bboxes'][0], None, None]
            assert ('occlusion' in track) == (source == 'ovis')
    coco = load(out, 'coco_train')
    forward = to_bvisd('coco')
    original = {a['id']: a for a in coco_json()['annotations']}
    assert len(coco['annotations']) == len(coco['images']) == 25
    for thing in coco['annotations']:
        before = original[thing['source_id']]
        assert thing['category_id'] == forward[before['category_id']]
        assert thing['bbox'] == before['bbox'] and thing['source_id'] < 900
    sources = {image['id']: image['source_id'] for image in coco['images']}
    assert all(sources[a['image_id']] == 1000 + a['source_id'] for a in coco['annotations'])
    for name in (*TRAIN, 'bvisd_valid'):
        for annotation in load(out, name)['annotations']:
            assert not annotation.keys() & {'segmentations', 'segmentation', 'areas', 'area'}


def test_split_is_the_rule_and_is_written(tmp_path, files):
    out = build(tmp_path, files)
    splits = load(out, 'manifest')['splits']
    for source in ('ytvis21', 'ovis'):
        content = json.loads(files[source].read_text())
        train, valid = split_training_json(content, double_quota=source == 'ovis')
        assert splits[source]['train'] == [v['id'] for v in train['videos']]
        assert splits[source]['valid'] == [v['id'] for v in valid['videos']]
        assert splits[source]['valid'] and not splits[source]['unannotated']
        shown = [v['source_id'] for v in load(out, f'{source}_train')['videos']]
        assert shown == splits[source]['train']


def test_manifest(tmp_path, files):
    out = build(tmp_path, files)
    manifest = load(out, 'manifest')
    for source, path in files.items():
        data = path.read_bytes()
        record = manifest['inputs'][source]
        assert record['sha256'] == hashlib.sha256(data).hexdigest()
        assert (record['file'], record['bytes']) == (path.name, len(data))
    for name, record in manifest['outputs'].items():
        data = (out / name).read_bytes()
        assert record['sha256'] == hashlib.sha256(data).hexdigest()
        assert record['bytes'] == len(data)
    assert manifest['inputs']['ytvis21']['boxes_without_area'] == 120
    assert manifest['inputs']['coco']['left_out'] == 57
    coco = manifest['outputs']['coco_train.json']
    assert coco['objects'] == coco['images'] == 25
    assert coco['objects_per_class']['vehicle'] == 3
    assert {'mmboxvis', 'python', 'numpy', 'pycocotools'} <= manifest['versions'].keys()


def test_deterministic_and_dry_run(tmp_path, files):
    first = build_bvisd(tmp_path / 'a', **files)
    build_bvisd(tmp_path / 'b', **files)
    for path in (tmp_path / 'a').iterdir():
        assert path.read_bytes() == (tmp_path / 'b' / path.name).read_bytes()
    dry = build_bvisd(tmp_path / 'c', dry_run=True, **files)
    assert not (tmp_path / 'c').exists()
    for name, counts in dry['outputs'].items():
        assert counts.items() <= first['outputs'][name].items()


@pytest.mark.parametrize('released', [False, True])
def test_truck(tmp_path, files, released):
    out = build(tmp_path, files, released_mapping=released)
    truck = [c for c, name in category_names('coco').items() if name == 'truck']
    keys = {a['id'] for a in coco_json()['annotations'] if a['category_id'] in truck}
    found = [a for a in load(out, 'coco_train')['annotations'] if a['source_id'] in keys]
    assert [BVISD_CLASSES[a['category_id'] - 1] for a in found] == [
        'turtle' if released else 'vehicle'
    ]
    assert load(out, 'manifest')['settings']['released_mapping'] is released


@pytest.mark.parametrize('masks', ['valid', 'all'])
def test_masks(tmp_path, files, masks):
    out = build(tmp_path, files, masks=masks)
    valid = load(out, 'bvisd_valid')['annotations'][0]
    assert valid['areas'] == [50, None, None] and valid['segmentations'][1:] == [None, None]
    # runs as a list are turned into a string
    assert isinstance(valid['segmentations'][0]['counts'], str)
    for name, column in (('ovis_train', 'segmentations'), ('coco_train', 'segmentation')):
        kept = [column in a for a in load(out, name)['annotations']]
        assert all(kept) if masks == 'all' else not any(kept)
    with pytest.raises(ValueError, match='masks must be one of'):
        build(tmp_path, files, masks='some')


def test_broken_runs(tmp_path, files):
    def change(content):
        content['annotations'][4]['segmentations'][0] = dict(size=[40, 60], counts=[7])

    rewrite(files['ovis'], change)
    with pytest.raises(AnnotationError, match=r'annotation 5, frame 0.*covers 7 of 2400 pixels'):
        build(tmp_path, files, masks='all')


@pytest.mark.parametrize(
    ('masks', 'message'),
    [
        (5, 'expected a list of 3 frames, got 5'),
        ([None], 'expected a list of 3 frames, got 1 entries'),
        ([5, None, None], 'frame 0, .*expected null, polygons or a run-length'),
        ([None, dict(size=[40, 60], counts=['x']), None], 'frame 1, .*whole numbers of pixels'),
        ([dict(size=[40, 60], counts='oo'), None, None], 'frame 0, .*broken or cut off'),
        ([[[1, 1, 2, 2]], None, None], 'frame 0, .*three corners'),
    ],
)
def test_broken_masks(tmp_path, files, masks, message):
    """Are refused where they are kept, and no matter where they are not."""

    def change(content):
        content['annotations'][4]['segmentations'] = masks

    rewrite(files['ytvis21'], change)
    where = rf'ytvis21\.json: video 5, annotation 5, .*{message}'
    for kept in ('valid', 'all'):
        with pytest.raises(AnnotationError, match=where):
            build(tmp_path, files, masks=kept)
    build(tmp_path, files)


@pytest.mark.parametrize('name', ['Vehical', 'Vehicle', 'vehicle'])
def test_spellings_and_ids_of_ovis(tmp_path, files, name):
    """Categories are known by name, whatever their ids are."""

    def change(content):
        for category in content['categories']:
            category['id'] += 100
            if category['name'] == 'Vehical':
                category['name'] = name
            category['name'] = category['name'].replace('_', ' ')
        for annotation in content['annotations']:
            annotation['category_id'] += 100

    before = build(tmp_path, files)
    expected = {n: load(before, n)['annotations'] for n in ('ovis_train', 'bvisd_valid')}
    rewrite(files['ovis'], change)
    after = build(tmp_path, files)
    assert {n: load(after, n)['annotations'] for n in expected} == expected


def test_null_annotations(tmp_path, files):
    rewrite(files['ovis'], lambda content: content.update(annotations=None))
    with pytest.warns(UserWarning, match=r'ovis\.json: has no annotations'):
        out = build(tmp_path, files)
    assert load(out, 'ovis_train')['videos'] == []
    assert len(load(out, 'manifest')['splits']['ovis']['unannotated']) == 60
    rewrite(files['coco'], lambda content: content.update(annotations=None))
    with (
        pytest.warns(UserWarning),
        pytest.raises(AnnotationError, match='none of the files given has an annotation'),
    ):
        build_bvisd(tmp_path / 'x', ovis=files['ovis'], coco=files['coco'])


def test_parts_left_out(tmp_path, files):
    build(tmp_path, files)
    out = build(tmp_path, dict(coco=files['coco']))
    # what the earlier run wrote and this one does not is gone
    assert {p.name for p in out.iterdir()} == {
        'coco_train.json', 'bvisd_valid.json', 'manifest.json',
    }  # fmt: skip
    assert load(out, 'bvisd_valid')['videos'] == []
    with pytest.raises(ValueError, match='at least one'):
        build_bvisd(tmp_path / 'x')


@pytest.mark.parametrize(
    ('source', 'change', 'message'),
    [
        ('ytvis21', lambda c: c['categories'][4].update(name='sedan'), "sedan.*file of ytvis21"),
        ('ovis', lambda c: c['videos'][2].pop('height'), "video 3: field 'height' is missing"),
        ('ovis', lambda c: c['annotations'][5]['bboxes'].pop(), 'annotation 6.*2 entries'),
        ('coco', lambda c: c['annotations'][7].update(bbox=[1, 2]), 'annotation 7.*expected'),
        ('coco', lambda c: c['annotations'][7].update(image_id=[]), 'annotation 7.*image_id|video'),
        ('coco', lambda c: c['annotations'][7].update(category_id=12), 'category_id 12'),
        ('coco', lambda c: c.pop('images'), "expected a list 'images'"),
        ('ytvis21', lambda c: c.pop('videos'), "expected a list 'videos'"),
        ('ytvis21', lambda c: c.update(images=c.pop('videos')), 'COCO layout'),
    ],
)  # fmt: skip
def test_broken_input_changes_nothing(tmp_path, files, source, change, message):
    out = build(tmp_path, files)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    rewrite(files[source], change)
    with pytest.raises(AnnotationError, match=message):
        build(tmp_path, files)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_training_reads_what_was_built(tmp_path, files):
    out = build(tmp_path, files)
    roots = {}
    for name in TRAIN:
        roots[name] = tmp_path / 'frames' / name
        content = load(out, name)
        for entry in content.get('videos', content.get('images')):
            path = roots[name] / entry.get('file_names', [entry.get('file_name')])[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    parts = {
        key: dict(ann_file=str(out / f'{name}.json'), img_root=str(roots[name]))
        for key, name in zip(('ytvis', 'ovis', 'coco'), TRAIN, strict=True)
    }
    mixed = BVISD(**parts)
    for part, name in zip(mixed.datasets, TRAIN, strict=True):
        content = load(out, name)
        label = {a['id']: a['category_id'] - 1 for a in content['annotations']}
        seen = {}
        for index in range(len(part)):
            instances = part.get_data_info(index)['instances']
            seen.update(zip(instances.ids.tolist(), instances.labels.tolist(), strict=True))
        assert seen == label


def test_configs_read_a_tree_of_links(tmp_path, files, monkeypatch, capsys):
    """Whole sets, or the folder of the frames alone, lie on another disk."""
    disk, data = tmp_path / 'disk', tmp_path / 'data'
    image = cv2.imencode('.jpg', np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    folders = {'ytvis21': 'ytvis_2021/train/JPEGImages', 'ovis': 'OVIS/train'}
    for source, folder in folders.items():
        for video in load(tmp_path, source)['videos']:
            for name in video['file_names']:
                path = disk / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image)
    (disk / 'coco' / 'train2017').mkdir(parents=True)
    for entry in load(tmp_path, 'coco')['images']:
        (disk / 'coco' / 'train2017' / entry['file_name']).touch()
    (data / 'OVIS').mkdir(parents=True)
    (data / 'ytvis_2021').symlink_to(disk / 'ytvis_2021')
    (data / 'coco').symlink_to(disk / 'coco')
    (data / 'OVIS' / 'train').symlink_to(disk / 'OVIS' / 'train')
    build_bvisd(data / 'bvisd', **files)

    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(ROOT / 'configs' / 'boxvis' / 'boxvis_r50_8xb2-15k_bvisd.py')
    loaders = cfg.train_dataloader, cfg.val_dataloader
    train, valid = (DATASETS.build(loader.dataset.to_dict()) for loader in loaders)
    assert [len(part) for part in train.datasets] == [
        len(load(data / 'bvisd', name).get(key, ())) for name, key in zip(
            TRAIN, ('videos', 'videos', 'images'), strict=True
        )
    ]  # fmt: skip
    videos = load(data / 'bvisd', 'bvisd_valid')['videos']
    assert len(valid) == len(videos)
    read = {valid.get_data_info(i)['file_names'][0].split('/')[0] for i in range(len(valid))}
    assert read == {'ytvis_2021', 'OVIS'}
    for index in (0, len(valid) - 1):
        assert [frame.shape[-1] for frame in valid[index]['inputs']] == [3] * LENGTH

    check = [str(data / 'bvisd' / 'bvisd_valid.json'), '--images', str(data)]
    assert check_tool().main(check) == 1
    assert capsys.readouterr().out.count('goes through a link') == LENGTH * len(videos)
    assert check_tool().main([*check, '--linked', *folders.values()]) == 0

    # the config names no other folder, so that a file cannot lead to one
    (data / 'loose').symlink_to(disk)
    (disk / 'OVIS' / 'train' / 'loose').symlink_to(disk)
    for name in ('loose/coco/0.jpg', 'OVIS/train/loose/coco/0.jpg', 'OVIS//train/ovis0/0.jpg'):
        rewrite(
            data / 'bvisd' / 'bvisd_valid.json',
            lambda content, name=name: content['videos'][0]['file_names'].__setitem__(0, name),
        )
        with pytest.raises(AnnotationError, match=f'frame 0: .*{name} goes through a link'):
            DATASETS.build(cfg.val_dataloader.dataset.to_dict())
        assert check_tool().main([*check, '--linked', *folders.values()]) == 1
        assert capsys.readouterr().out.count('goes through a link') == 1


def test_command_line(tmp_path, files, capsys):
    main = tool().main
    arguments = [f'--{name}={path}' for name, path in files.items()]
    out = tmp_path / 'cli'
    assert main([*arguments, '--out', str(out), '--dry-run']) == 0
    assert not out.exists() and 'Nothing was written' in capsys.readouterr().out
    assert main([*arguments, '--out', str(out), '--ovis-frames', 'elsewhere']) == 0
    assert 'ytvis21_train.json' in capsys.readouterr().out
    names = {v['file_names'][0].split('/')[0] for v in load(out, 'bvisd_valid')['videos']}
    assert names == {'ytvis_2021', 'elsewhere'}
    assert main(['--coco', str(tmp_path / 'none.json'), '--out', str(out)]) == 1
    assert 'none.json not found' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(['--out', str(out)])


def test_real_coco(tmp_path, real_data):
    path = real_data / 'coco_mini' / 'instances.json'
    manifest = build_bvisd(tmp_path / 'out', coco=path)
    counts = manifest['outputs']['coco_train.json']
    original = json.loads(path.read_text())
    forward = to_bvisd('coco')
    expected = [
        a for a in original['annotations'] if a['category_id'] in forward and not a['iscrowd']
    ]
    assert counts['objects'] == len(expected)
    assert counts['images'] == len({a['image_id'] for a in expected})
    mixed = BVISD(
        coco=dict(
            ann_file=str(tmp_path / 'out' / 'coco_train.json'),
            img_root=str(real_data / 'coco_mini' / 'images'),
        )
    )
    assert len(mixed) == counts['images']


def test_real_videos(tmp_path, real_data):
    """Real tracks under classes that YouTube-VIS has."""
    content = json.loads((real_data / 'davis_mini' / 'instances.json').read_text())
    names = {c['id']: c['name'] for c in content['categories']}
    kept = {key for key, name in names.items() if name in category_names('ytvis21').values()}
    content['categories'] = [c for c in content['categories'] if c['id'] in kept]
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] in kept]
    path = tmp_path / 'davis.json'
    path.write_text(json.dumps(content))
    manifest = build_bvisd(tmp_path / 'out', ytvis21=path, masks='all')
    outputs = manifest['outputs']
    both = [outputs[f'ytvis21_{part}.json'] for part in ('train', 'valid')]
    assert sum(part['instances'] for part in both) == len(content['annotations'])
    tracks = [
        a
        for part in ('train', 'valid')
        for a in load(tmp_path / 'out', f'ytvis21_{part}')['annotations']
    ]
    original = {a['id']: a for a in content['annotations']}
    for track in tracks:
        before = original[track['source_id']]
        assert BVISD_CLASSES[track['category_id'] - 1] in (
            names[before['category_id']],
            'vehicle',
        )
        assert track['bboxes'] == before['bboxes']
        assert track['segmentations'] == before['segmentations']
    assert read_annotation_file(tmp_path / 'out' / 'bvisd_valid.json').missing == ()


def originals(root: Path) -> None:
    """The tree that prepare.sh wants."""
    for file in (
        'ytvis_2021/train/instances.json', 'OVIS/annotations_train.json',
        'coco/annotations/instances_train2017.json', 'ytvis_2021/train/JPEGImages/a/0.jpg',
        'OVIS/train/a/0.jpg', 'coco/train2017/0.jpg',
    ):  # fmt: skip
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{}')


def prepare(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs prepare.sh with a python that only says what it is asked to run."""
    echo = root.parent / 'echo_python'
    echo.write_text('#!/bin/sh\necho RUN "$@"\n')
    echo.chmod(0o755)
    return subprocess.run(
        ['sh', str(TOOLS / 'prepare.sh'), *arguments, str(root)],
        capture_output=True, text=True, env=dict(os.environ, PYTHON=str(echo)), check=False,
    )  # fmt: skip


def test_prepare(tmp_path):
    root = tmp_path / 'my data'
    originals(root)
    checked = prepare(root, '--check')
    assert checked.returncode == 0 and 'RUN' not in checked.stdout
    assert checked.stdout.count('found') == 6
    done = prepare(root)
    assert done.returncode == 0
    assert f'--ovis {root}/OVIS/annotations_train.json' in done.stdout
    assert f'--out {root}/bvisd --masks valid' in done.stdout
    assert prepare(root, '--sets', 'coco', '--frames').stdout.count('RUN') == 2
    (root / 'bvisd').mkdir()
    for source in ('ytvis21', 'ovis'):
        (root / 'bvisd' / f'{source}_valid.json').touch()
    checks = [line for line in prepare(root, '--frames').stdout.splitlines() if 'check_' in line]
    assert [line.partition('/bvisd/')[2] for line in checks] == [
        f'{name}.json --classes bvisd --images {root}/{folder}'
        for name, folder in (
            ('ytvis21_train', 'ytvis_2021/train/JPEGImages'),
            ('ytvis21_valid', 'ytvis_2021/train/JPEGImages'),
            ('ovis_train', 'OVIS/train'),
            ('ovis_valid', 'OVIS/train'),
            ('coco_train', 'coco/train2017'),
        )
    ]


def test_prepare_says_what_is_missing(tmp_path):
    root = tmp_path / 'data'
    originals(root)
    (root / 'OVIS' / 'train' / 'a' / '0.jpg').unlink()
    (root / 'OVIS' / 'train' / 'a').rmdir()
    (root / 'coco' / 'annotations' / 'instances_train2017.json').write_text('')
    found = prepare(root)
    assert found.returncode == 1 and 'RUN' not in found.stdout
    assert found.stderr.count('MISSING') == 2
    assert f'MISSING  {root}/OVIS/train' in found.stderr
    assert prepare(root, '--sets', 'ytvis21', '--check').returncode == 0
    assert prepare(root, '--sets', 'lvis').returncode == 2
    assert prepare(root, '--nonsense').returncode == 2
    assert 'JPEGImages' in prepare(root, '--help').stdout


def test_inputs_are_not_changed(tmp_path, files):
    before = {name: path.read_bytes() for name, path in copy.copy(files).items()}
    build(tmp_path, files)
    assert {name: path.read_bytes() for name, path in files.items()} == before
