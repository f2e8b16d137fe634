"""The command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

ROWS = '1,1,0,0,4,4,1,1,1\n3,2,1,1,5,5,1,3,1\n'


@pytest.fixture
def run(tool, tmp_path, capsys):
    """Runs the tool; gives exit code, output and messages."""

    def call(*arguments: object, out: str = 'out.json') -> tuple[int, str, str]:
        code = tool.main([*map(str, arguments), '--out', str(tmp_path / out)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_import(run, write, tmp_path):
    source = write('walk.txt', ROWS + '2,-1,0,0,4,4,1,1,1\n')
    code, out, err = run('--from', 'mot', source, '--size', 60, 40)
    assert (code, err) == (0, '')
    assert out.splitlines() == [
        f'{tmp_path / "out.json"}: 1 videos, 3 frames, 2 objects, 2 boxes, 2 classes '
        '(pedestrian, car)',
        '  1 x rows without a track (id -1) left out',
    ]
    content = json.loads((tmp_path / 'out.json').read_text())
    assert (content['videos'][0]['width'], content['videos'][0]['height']) == (60, 40)


def test_class_map_every_and_several_sources(run, write, tmp_path):
    sources = [write(f'{name}.txt', ROWS) for name in 'ab']
    classes = write('map.yml', 'car: vehicle\npedestrian: null\n')
    code, out, _ = run('--from', 'mot', *sources, '--class-map', classes, '--every', 2)
    assert code == 0
    content = json.loads((tmp_path / 'out.json').read_text())
    assert [video['name'] for video in content['videos']] == ['a', 'b']
    assert content['categories'] == [dict(id=1, name='vehicle')]
    assert [a['bboxes'] for a in content['annotations']] == [[None, [1, 1, 5, 5]]] * 2
    assert "2 x objects of class 'pedestrian' dropped by the class map" in out


def test_export_and_back(run, write, tmp_path):
    run('--from', 'mot', write('walk.txt', ROWS), '--size', 60, 40)
    first = json.loads((tmp_path / 'out.json').read_text())
    for name, out, back in (
        ('mot', 'mot', 'mot'),
        ('cvat-video', 'cvat.xml', 'cvat.xml'),
        ('cvat-video', 'cvat', 'cvat/walk.xml'),
        ('coco-vid', 'coco.json', 'coco.json'),
        ('yolo-track', 'yolo', 'yolo'),
    ):
        assert run('--from', 'ytvis', tmp_path / 'out.json', '--to', name, out=out)[0] == 0
        more = ('--size', 60, 40) if name == 'yolo-track' else ()
        assert run('--from', name, tmp_path / back, *more, out='again.json')[0] == 0
        again = json.loads((tmp_path / 'again.json').read_text())
        assert [a['bboxes'] for a in again['annotations']] == [
            a['bboxes'] for a in first['annotations']
        ]
        assert again['categories'] == first['categories']


def test_files_of_a_folder_are_replaced_only_if_allowed(run, write, tmp_path):
    source = write('walk.txt', ROWS)
    arguments = ('--from', 'mot', source, '--to', 'mot')
    assert run(*arguments, out='set')[0] == 0
    code, _, err = run(*arguments, out='set')
    assert code == 1 and 'exists already' in err
    assert run(*arguments, '--overwrite', out='set')[0] == 0
    assert not [path for path in (tmp_path / 'set').iterdir() if path.name.startswith('.')]


def test_sizes_from_images(run, write, tmp_path):
    source = write('walk.txt', ROWS)
    code, _, err = run('--from', 'mot', source, '--images', tmp_path / 'images')
    assert code == 1 and '000001.jpg not found; check --images' in err
    path = tmp_path / 'images' / 'walk' / 'img1' / '000001.jpg'
    path.parent.mkdir(parents=True)
    Image.new('L', (33, 22)).save(path)
    assert run('--from', 'mot', source, '--images', tmp_path / 'images')[0] == 0
    (video,) = json.loads((tmp_path / 'out.json').read_text())['videos']
    assert (video['width'], video['height']) == (33, 22)
    exif = Image.Exif()
    exif[0x0112] = 6  # a telephone held upright
    Image.new('L', (33, 22)).save(path, exif=exif)
    assert run('--from', 'mot', source, '--images', tmp_path / 'images')[0] == 0
    (video,) = json.loads((tmp_path / 'out.json').read_text())['videos']
    assert (video['width'], video['height']) == (22, 33)


@pytest.mark.parametrize(
    ('rows', 'arguments', 'message'),
    [
        ('1,-1,0,0,4,4,1\n', (), 'no box of an object that can be followed; 1 x rows without'),
        (ROWS, ('--identity', 'label'), '--identity means nothing to --from mot'),
        (ROWS, ('--keep-masks',), '--keep-masks means nothing to --from mot'),
        (ROWS, ('--fps', 5), "the rate of video 'walk' is not known"),
        (ROWS, ('--names', '{x}'), 'may use {video}'),
        (ROWS, ('--names', '../{frame}.jpg'), 'leads out of the folder'),
        (ROWS, ('--names', 'same.jpg'), "two frames of video 'walk' are called 'same.jpg'"),
        (ROWS, ('--labels', 'gone.txt'), 'gone.txt not found'),
        (ROWS, ('--video', 'gone.mp4'), 'gone.mp4 not found'),
        (ROWS, ('--to', 'yolo-track'), 'needs its width and height'),
        ('x', (), 'line 1: '),
    ],
)
def test_one_error_and_no_output(run, write, tmp_path, rows, arguments, message):
    before = write('walk.txt', rows)
    code, out, err = run('--from', 'mot', before, *arguments)
    assert (code, out) == (1, '')
    assert err.startswith('error: ') and message in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['source']


def test_source_is_not_replaced(run, write, tmp_path):
    source = write('walk.txt', ROWS)
    code, _, err = run('--from', 'mot', source, out='source/walk.txt')
    assert code == 1 and 'is the source itself' in err
    assert source.read_text() == ROWS


@pytest.mark.parametrize(
    'arguments',
    [
        ('--from', 'nothing', 'a'),
        ('--from', 'mot'),
        ('--from', 'mot', 'a', '--frames', 'x'),
        ('--from', 'mot', 'a', '--every', 0),
        ('--from', 'mot', 'a', '--every', 2, '--fps', 3),
        ('--from', 'mot', 'a', '--size', 0, 5),
        ('--from', 'mot', 'a', '--fps', 'nan'),
        ('--from', 'masks', 'a', '--keep-masks', '--to', 'mot'),
    ],
)
def test_wrong_command_lines(run, arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2


def test_every_format_is_documented(tool):
    text = (Path(tool.__file__).parents[2] / 'docs' / 'en' / 'import.md').read_text()
    for name in (*tool.READERS, *tool.WRITERS):
        assert f'--from {name}' in text or f'--to {name}' in text
