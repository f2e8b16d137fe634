"""The command line."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

TASK = ('size', 'start_frame', 'stop_frame', 'frame_filter')
ROWS = '1,1,0,0,4,4,1,1,1\n3,2,1,1,5,5,1,3,1\n'


def own_layout(names: list[str], boxes: list) -> dict:
    """One object in one video, in YouTube-VIS layout."""
    return dict(
        videos=[dict(id=1, name='walk', file_names=names, width=60, height=40)],
        categories=[dict(id=1, name='cat')],
        annotations=[dict(id=1, video_id=1, category_id=1, bboxes=boxes)],
    )


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


def test_unknown_sizes_are_told(run, write):
    source = write('walk.txt', ROWS)
    told = '1 x videos whose size is not known; --size, --images or --video tells it'
    assert told in run('--from', 'mot', source)[1]
    assert told not in run('--from', 'mot', source, '--size', 60, 40)[1]


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
        first_is_1 = ('--first-frame', 1)  # as in the names of MOT's images
        source = ('--from', 'ytvis', tmp_path / 'out.json', *first_is_1)
        assert run(*source, '--to', name, out=out)[0] == 0
        more = ('--size', 60, 40) if name == 'yolo-track' else ()
        assert run('--from', name, tmp_path / back, *more, out='again.json')[0] == 0
        again = json.loads((tmp_path / 'again.json').read_text())
        assert [a['bboxes'] for a in again['annotations']] == [
            a['bboxes'] for a in first['annotations']
        ]
        assert again['categories'] == first['categories']


def test_numbers_of_frames_come_back_from_cvat(run, write, tmp_path, cvat, box):
    """Frames 10, 15, 20, 25 of a video file, of which every second is kept."""
    keys = box(10, (0, 0, 4, 4)) + box(20, (10, 0, 14, 4)) + box(25, (1, 1, 2, 2), outside=1)
    text = cvat(f'<track id="0" label="cat">{keys}</track>', size=4, start=10, rule='step=5')
    source = ('--from', 'cvat-video', write('a.xml', text), '--names', 'w/{frame:05d}.png')
    assert run(*source, '--every', 2)[0] == 0
    first = json.loads((tmp_path / 'out.json').read_text())
    assert first['videos'][0]['file_names'] == ['w/00010.png', 'w/00020.png']
    own = ('--from', 'ytvis', tmp_path / 'out.json', '--to', 'cvat-video')
    for exported in ((*source, '--every', 2, '--to', 'cvat-video'), own):
        assert run(*exported, '--overwrite', out='cvat')[0] == 0
        root = ElementTree.parse(tmp_path / 'cvat' / 'walk.xml').getroot()
        told = [root.findtext(f'meta/task/{name}') for name in TASK]
        assert told == ['2', '10', '20', 'step=10']
        assert [shape.get('frame') for shape in root.iter('box')] == ['10', '20']
        back = ('--from', 'cvat-video', tmp_path / 'cvat', '--names', 'w/{frame:05d}.png')
        assert run(*back, out='again.json')[0] == 0
        again = json.loads((tmp_path / 'again.json').read_text())
        assert again['videos'] == first['videos']
        assert [a['bboxes'] for a in again['annotations']] == [
            a['bboxes'] for a in first['annotations']
        ]
    # a task that is made of the two images
    assert run(*own, '--count-frames', '--overwrite', out='cvat')[0] == 0
    root = ElementTree.parse(tmp_path / 'cvat' / 'walk.xml').getroot()
    assert [root.findtext(f'meta/task/{name}') for name in TASK] == ['2', '0', '1', '']
    assert [shape.get('frame') for shape in root.iter('box')] == ['0', '1']


@pytest.mark.parametrize('format_', ['mot', 'yolo-track', 'coco-vid'])
def test_numbers_that_a_format_does_not_hold_are_told(run, write, tmp_path, format_):
    for names, told in (
        (['10.jpg', '15.jpg'], True),
        (['10.jpg', '11.jpg'], True),
        (['0.jpg', '2.jpg'], True),
        (['0.jpg', '1.jpg'], False),
        (['1.jpg', '2.jpg'], False),
    ):
        source = write('walk.json', own_layout(names, [[0, 0, 4, 4]] * 2))
        code, out, _ = run('--from', 'ytvis', source, '--to', format_, '--overwrite', out='set')
        assert code == 0
        assert (f'1 x videos of which {format_} counts the frames' in out) == told


def test_frames_for_cvat_of_a_file_with_pictures_between(run, write, tmp_path):
    source = write('walk.json', own_layout(['11.jpg', '12.jpg'], [[0, 0, 4, 4]] * 2))
    export = ('--from', 'ytvis', source, '--to', 'cvat-video', '--first-frame', 1)
    assert run(*export, '--video-step', 5, out='a.xml')[0] == 0
    root = ElementTree.parse(tmp_path / 'a.xml').getroot()
    assert [shape.get('frame') for shape in root.iter('box')] == ['50', '55']
    code, _, err = run(*export[:-1], 12, '--video-step', 5, '--overwrite', out='a.xml')
    assert code == 1 and 'frames count from 12' in err


def test_frames_for_cvat_that_no_step_describes(run, write, tmp_path):
    """Frames 0, 4 and 10 of a file: CVAT shows those between them too."""
    names = ['0.jpg', '4.jpg', '10.jpg']
    source = write('walk.json', own_layout(names, [[0, 0, 4, 4], None, [2, 2, 4, 4]]))
    assert run('--from', 'ytvis', source, '--to', 'cvat-video', out='a.xml')[0] == 0
    root = ElementTree.parse(tmp_path / 'a.xml').getroot()
    assert [root.findtext(f'meta/task/{name}') for name in TASK] == ['6', '0', '10', 'step=2']
    found = [(shape.get('frame'), shape.get('outside')) for shape in root.iter('box')]
    assert found == [('0', '0'), ('4', '1'), ('10', '0')]


@pytest.mark.parametrize(
    'names',
    [
        ['a.jpg', 'b.jpg'],
        ['7.jpg', '3.jpg'],
        ['0.jpg', f'{10**9}.jpg', f'{10**9 + 1}.jpg'],  # no task is so long
    ],
)
def test_frames_without_numbers_are_counted_for_cvat(run, write, tmp_path, names):
    source = write('walk.json', own_layout(names, [[0, 0, 4, 4]] * len(names)))
    assert run('--from', 'ytvis', source, '--to', 'cvat-video', out='a.xml')[0] == 0
    root = ElementTree.parse(tmp_path / 'a.xml').getroot()
    assert [shape.get('frame') for shape in root.iter('box')] == [*map(str, range(len(names)))]
    assert root.findtext('meta/task/start_frame') == '0'


def test_names_that_begin_at_one_ask_for_the_first_frame_of_cvat(run, write, tmp_path):
    source = write('walk.json', own_layout(['1.jpg', '3.jpg'], [[0, 0, 4, 4]] * 2))
    export = ('--from', 'ytvis', source, '--to', 'cvat-video')
    code, _, err = run(*export, out='a.xml')
    assert code == 1 and 'say --first-frame 1' in err and '--count-frames' in err
    for first, frames in ((1, ['0', '2']), (0, ['1', '3'])):
        assert run(*export, '--first-frame', first, out='a.xml')[0] == 0
        root = ElementTree.parse(tmp_path / 'a.xml').getroot()
        assert [shape.get('frame') for shape in root.iter('box')] == frames
        back = ('--from', 'cvat-video', tmp_path / 'a.xml', '--names', '{frame}.jpg')
        assert run(*back, '--first-frame', first)[0] == 0
        (video,) = json.loads((tmp_path / 'out.json').read_text())['videos']
        assert video['file_names'] == ['1.jpg', '3.jpg']


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
    for number in (2, 3, 1):
        path = path.with_name(f'{number:06d}.jpg')
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


def test_images_that_are_missing(run, write, tmp_path):
    names = [f'walk/{number:05d}.jpg' for number in (0, 2, 4)]
    source = write('walk.json', own_layout(names, [[0, 0, 4, 4]] * 3))
    images = tmp_path / 'images'
    (images / 'walk').mkdir(parents=True)
    for name in names[:2]:
        Image.new('L', (60, 40)).save(images / name)
    code, _, err = run('--from', 'ytvis', source, '--images', images)
    assert code == 1 and '1 of 3 images' in err and 'walk/00004.jpg' in err
    assert not (tmp_path / 'out.json').exists()
    Image.new('L', (60, 40)).save(images / names[2])
    assert run('--from', 'ytvis', source, '--images', images)[0] == 0


@pytest.mark.parametrize('size', [(), ('--size', 60, 40)])
def test_only_links_that_are_named_are_followed(run, write, tmp_path, size):
    """Whether the image is opened, for the size, or only looked for."""
    (tmp_path / 'images').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    Image.new('L', (60, 40)).save(tmp_path / 'elsewhere' / '000001.jpg')
    (tmp_path / 'images' / 'walk').symlink_to(tmp_path / 'elsewhere')
    source = write('walk.txt', ROWS.splitlines()[0])
    names = ('--names', '{video}/{frame:06d}.jpg')
    arguments = ('--from', 'mot', source, *names, '--images', tmp_path / 'images', *size)
    code, _, err = run(*arguments)
    assert code == 1 and 'walk/000001.jpg goes through a link that leads out' in err
    assert run(*arguments, '--linked', 'walk')[0] == 0


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
        ('--from', 'mot', 'a', '--count-frames'),
        ('--from', 'mot', 'a', '--linked', 'b'),
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
