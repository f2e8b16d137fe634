from __future__ import annotations

import json
import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mmboxvis.datasets import AnnotationError, BoxVideo
from mmboxvis.datasets.importers import Video, extract_frames, movie_of, probe

SIZE = (64, 48)
FRAMES = 12


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """Twelve frames at 6 a second; frame k has grey level 20 k."""
    path = tmp_path / 'walk.mp4'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=6)
        stream.width, stream.height = SIZE
        stream.pix_fmt = 'yuv420p'
        stream.gop_size = 5  # most frames need others to be decoded
        for index in range(FRAMES):
            image = np.full((SIZE[1], SIZE[0], 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='bgr24')))
        container.mux(stream.encode())
    return path


def video(numbers: tuple[int, ...], first: int = 0, **more) -> Video:
    names = tuple(f'walk/{number:06d}.png' for number in numbers)
    return Video('walk', names, numbers, first_number=first, **more)


def grey(root: Path) -> dict[str, int]:
    """Index of the frame that each image shows."""
    found = sorted(root.rglob('*.*g'))
    return {path.stem: round(float(cv2.imread(str(path)).mean()) / 20) for path in found}


def test_probe(movie):
    info = probe(movie)
    assert (info.width, info.height, info.fps) == (*SIZE, 6)


def test_a_name_with_a_colon_is_no_address(movie, monkeypatch):
    monkeypatch.chdir(movie.parent)
    movie.rename('12:30.mp4')
    assert probe(Path('12:30.mp4')).fps == 6


@pytest.mark.parametrize(
    ('numbers', 'first', 'step', 'shown'),
    [
        ((0,), 0, 1, (0,)),
        ((2, 5, 8, 11), 0, 1, (2, 5, 8, 11)),
        ((1, 2, 12), 1, 1, (0, 1, 11)),
        ((0, 1, 3), 0, 3, (0, 3, 9)),
    ],
)
def test_frames_have_the_number_of_the_annotation(movie, tmp_path, numbers, first, step, shown):
    extract_frames(video(numbers, first), movie, tmp_path / 'out', step=step)
    assert grey(tmp_path / 'out') == {
        f'{number:06d}': index for number, index in zip(numbers, shown, strict=True)
    }


def test_jpeg(movie, tmp_path):
    extract_frames(Video('walk', ('a.jpg',), (6,)), movie, tmp_path / 'out')
    assert grey(tmp_path / 'out') == {'a': 6}


def test_all_frames_or_none(movie, tmp_path):
    out = tmp_path / 'out'
    with pytest.raises(AnnotationError, match=r'has 12 frames, but video .walk. .* frame 12'):
        extract_frames(video((0, 12)), movie, out)
    assert not list(out.iterdir())
    with pytest.raises(AnnotationError, match=r'frames of 64 x 48 pixels, .* at 48 x 64'):
        extract_frames(video((0,), width=48, height=64), movie, out)
    with pytest.raises(AnnotationError, match=r'frame names end in \.jpg or \.png'):
        extract_frames(Video('walk', ('a.xyz',), (0,)), movie, out)
    assert not list(out.iterdir())


def test_images_are_replaced_only_if_allowed(movie, tmp_path):
    extract_frames(video((0,)), movie, tmp_path)
    with pytest.raises(FileExistsError, match=r'000000.png exists already'):
        extract_frames(video((0,)), movie, tmp_path)
    extract_frames(video((0,)), movie, tmp_path, overwrite=True)


def test_files_that_are_no_movies(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone.mp4 not found'):
        probe(tmp_path / 'gone.mp4')
    (tmp_path / 'a.mp4').write_bytes(b'no movie' * 100)
    with pytest.raises(AnnotationError, match=r'a.mp4: cannot be decoded'):
        probe(tmp_path / 'a.mp4')


def test_cut_off_movie(movie, tmp_path):
    (tmp_path / 'cut.mp4').write_bytes(movie.read_bytes()[:-400])
    with pytest.raises(AnnotationError, match=r'cut\.mp4: '):
        extract_frames(video(tuple(range(FRAMES))), tmp_path / 'cut.mp4', tmp_path / 'out')


def test_movie_that_is_shown_turned(tmp_path):
    """As a telephone held upright records it: turned clockwise by the player."""
    path = tmp_path / 'turned.mp4'
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    image[: SIZE[1] // 2, : SIZE[0] // 2] = 255
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=6)
        stream.width, stream.height = SIZE
        stream.pix_fmt = 'yuv420p'
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='bgr24')))
        container.mux(stream.encode())
    one, w = 1 << 16, 1 << 30
    plain = struct.pack('>9i', one, 0, 0, 0, one, 0, 0, 0, w)
    content = path.read_bytes()
    start = content.index(plain, content.index(b'tkhd'))
    turned = struct.pack('>9i', 0, one, 0, -one, 0, 0, 0, 0, w)
    path.write_bytes(content[:start] + turned + content[start + len(plain) :])

    info = probe(path)
    assert (info.width, info.height) == (SIZE[1], SIZE[0])
    extract_frames(Video('v', ('a.png',), (0,), (), SIZE[1], SIZE[0]), path, tmp_path)
    found = cv2.imread(str(tmp_path / 'a.png'))
    expected = cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
    assert np.abs(found.astype(int) - expected).mean() < 10


def test_which_movie_belongs_to_which_video():
    named, plain = ('walk', Path('x/1.mp4')), (None, Path('x/run.mp4'))
    assert movie_of((named, plain), 'walk') == Path('x/1.mp4')
    assert movie_of((named, plain), 'train/run') == Path('x/run.mp4')
    assert movie_of((named, plain), 'jump') is None
    assert movie_of((plain,), 'jump') == Path('x/run.mp4')
    assert movie_of((plain,), 'jump', only=False) is None
    assert movie_of((), 'jump') is None


def test_tool_writes_frames_and_boxes_that_belong_together(
    tool, movie, tmp_path, write, cvat, box, capsys
):
    keys = box(3, (0, 0, 10, 10)) + box(9, (20, 0, 30, 10), outside=1)
    text = cvat(f'<track id="0" label="cat">{keys}</track>', size=3, start=3, rule='step=3')
    text = text.replace('>100<', '>64<').replace('>80<', '>48<')
    arguments = [
        '--from', 'cvat-video', str(write('a.xml', text)), '--video', str(movie),
        '--frames', str(tmp_path / 'images'), '--out', str(tmp_path / 'boxes.json'),
    ]  # fmt: skip
    assert tool.main(arguments) == 0
    assert '1 videos, 3 frames, 1 objects, 2 boxes' in capsys.readouterr().out
    assert grey(tmp_path / 'images') == {'000003': 3, '000006': 6, '000009': 9}
    data = BoxVideo(str(tmp_path / 'boxes.json'), img_root=str(tmp_path / 'images'))
    info = data.get_data_info(0)
    assert info['file_names'] == [f'walk/00000{n}.jpg' for n in (3, 6, 9)]
    assert info['instances'].boxes[0, 1].tolist() == [10, 0, 20, 10]
    assert tool.main(arguments) == 1
    assert 'exists already' in capsys.readouterr().err


def test_tool_keeps_so_many_frames_a_second(tool, movie, tmp_path, write, cvat, box):
    track = f'<track id="0" label="cat">{box(0, (0, 0, 10, 10))}</track>'
    text = cvat(track, size=12).replace('>100<', '>64<').replace('>80<', '>48<')
    arguments = [
        '--from', 'cvat-video', str(write('a.xml', text)), '--video', f'walk={movie}',
        '--frames', str(tmp_path / 'images'), '--out', str(tmp_path / 'boxes.json'),
        '--fps', '2', '--names', 'flat_{frame}.png',
    ]  # fmt: skip
    assert tool.main(arguments) == 0
    assert grey(tmp_path / 'images') == {'flat_0': 0, 'flat_3': 3, 'flat_6': 6, 'flat_9': 9}


def test_tool_takes_the_size_from_the_movie(tool, movie, tmp_path, write):
    path = write('walk_2.txt', '0 0.5 0.5 0.5 0.5 3\n')
    out = tmp_path / 'boxes.json'
    code = tool.main(
        ['--from', 'yolo-track', str(path.parent), '--video', str(movie), '--out', str(out)]
    )
    content = json.loads(out.read_text())
    assert code == 0
    assert content['annotations'][0]['bboxes'] == [None, [16, 12, 32, 24]]
    assert (content['videos'][0]['width'], content['videos'][0]['height']) == SIZE


NUMBERS = (2, 5, 10)


def labelme(write) -> Path:
    for number in NUMBERS:
        shape = dict(label='cat', points=[[1, 1], [9, 9]], shape_type='rectangle', group_id=1)
        content = dict(imagePath=f'{number}.jpg', imageWidth=64, imageHeight=48, shapes=[shape])
        path = write(f'walk/{number:08d}.json', content)
    return path.parent


def plain_coco(write, **fields: list) -> Path:
    images = [
        dict(id=key, file_name=f'walk_{number:04d}.jpg', width=64, height=48)
        | {name: values[key] for name, values in fields.items()}
        for key, number in enumerate(NUMBERS)
    ]
    boxes = [dict(image_id=key, category_id=1, track_id=1, bbox=[1, 1, 8, 8]) for key in range(3)]
    return write(
        'walk.json', dict(images=images, annotations=boxes, categories=[dict(id=1, name='cat')])
    )


def masks(write) -> Path:
    image = np.zeros((48, 64), np.uint8)
    image[3:9, 4:12] = 1
    for number in NUMBERS:
        path = write(f'walk/{number:05d}.png', cv2.imencode('.png', image)[1].tobytes())
    return path.parent


def cvat_images(write) -> Path:
    box = '<box label="cat" group_id="1" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    images = ''.join(
        f'<image id="{key}" name="walk/frame_{number:06d}" width="64" height="48">{box}</image>'
        for key, number in enumerate(NUMBERS)
    )
    return write('walk.xml', f'<annotations>{images}</annotations>')


def own_layout(write, names: tuple[str, ...] = ('walk/00002.jpg', 'walk/5.jpg', 'walk/10.jpg')):
    return write(
        'walk.json',
        dict(
            videos=[dict(id=1, name='walk', file_names=list(names), width=64, height=48)],
            categories=[dict(id=1, name='cat')],
            annotations=[dict(id=1, video_id=1, category_id=1, bboxes=[[1, 1, 8, 8]] * len(names))],
        ),
    )


@pytest.mark.parametrize('first', [0, 1])
@pytest.mark.parametrize(
    ('name', 'source'),
    [
        ('labelme', labelme),
        ('coco', plain_coco),
        ('masks', masks),
        ('cvat-images', cvat_images),
        ('ytvis', own_layout),
    ],
)
def test_frames_by_the_numbers_in_names(tool, movie, tmp_path, write, name, source, first):
    images = tmp_path / 'images'
    arguments = ['--from', name, str(source(write)), '--video', str(movie), '--frames', str(images)]
    arguments += ['--out', str(tmp_path / 'boxes.json'), '--names', '{video}/{frame}.png']
    arguments += ['--first-frame', '1'] if first else []
    assert tool.main(arguments) == 0
    assert grey(images) == {str(number): number - first for number in NUMBERS}


def test_names_that_begin_at_one_ask_for_the_first_frame(tool, movie, tmp_path, write, capsys):
    """ffmpeg counts so, and other programs do not."""
    source = own_layout(write, ('walk/1.jpg', 'walk/2.jpg'))
    images = tmp_path / 'images'
    arguments = ['--from', 'ytvis', str(source), '--video', str(movie), '--frames', str(images)]
    arguments += ['--out', str(tmp_path / 'boxes.json'), '--names', '{video}/{frame}.png']
    assert tool.main(arguments) == 1
    assert "video 'walk' are numbered from 1: say --first-frame 1" in capsys.readouterr().err
    assert not images.exists()
    assert tool.main([*arguments, '--first-frame', '1']) == 0
    assert grey(images) == {'1': 0, '2': 1}


def test_number_that_the_source_tells_goes_before_the_name(tool, movie, tmp_path, write):
    source = plain_coco(write, video_id=[1, 1, 1], frame_id=[0, 3, 7])
    images = tmp_path / 'images'
    arguments = ['--from', 'coco', str(source), '--video', str(movie), '--frames', str(images)]
    assert tool.main([*arguments, '--out', str(tmp_path / 'boxes.json')]) == 0
    assert grey(images) == {f'{number:06d}': number for number in (0, 3, 7)}


def test_frames_without_numbers_are_refused(tool, movie, tmp_path, write, capsys):
    images, out = tmp_path / 'images', tmp_path / 'boxes.json'
    labels = [dict(id=1, category='cat', box2d=dict(x1=1, y1=1, x2=5, y2=5))]
    frames = [dict(name=f'{i}.jpg', videoName='walk', labels=labels) for i in (4, 5)]
    sources = (
        ('ytvis', lambda: own_layout(write, ('walk/a.jpg', 'walk/1.jpg'))),
        ('ytvis', lambda: own_layout(write, ('walk/2.jpg', 'walk/1.jpg'))),
        ('bdd-mot', lambda: write('bdd.json', frames)),
    )
    given = ['--out', str(out), '--video', str(movie)]
    for name, source in sources:
        arguments = ['--from', name, str(source()), *given]
        assert tool.main(arguments) == 0  # without frames the boxes are fine
        out.unlink()
        assert tool.main([*arguments, '--frames', str(images)]) == 1
        told = capsys.readouterr().err
        assert "video 'walk': nothing tells which frames of the video file its images are" in told
    more = ['--frames', str(images), '--first-frame', '3']
    assert tool.main(['--from', 'masks', str(masks(write)), *given, *more]) == 1
    assert "video 'walk': has frame 2, but frames count from 3" in capsys.readouterr().err
    assert not images.exists() and not out.exists()


@pytest.fixture
def pair(write):
    """A folder with two videos whose boxes are shares of the frame."""
    for name in ('a', 'b'):
        path = write(f'pair/{name}_1.txt', '0 0.5 0.5 0.5 0.5 3\n')
    return path.parent


def test_a_file_without_a_name_is_that_of_the_only_video(
    tool, movie, tmp_path, write, pair, capsys
):
    out = tmp_path / 'boxes.json'
    given = ['--video', str(movie), '--out', str(out)]
    assert tool.main(['--from', 'yolo-track', str(pair), *given]) == 1
    assert "video 'a' are shares of the frame, whose size is not" in capsys.readouterr().err
    named = [f'a={movie}', f'b={movie}']
    assert tool.main(['--from', 'yolo-track', str(pair), *given[2:], '--video', *named]) == 0
    rows = [str(write(f'{name}.txt', '1,1,0,0,4,4,1\n')) for name in ('c', 'd')]
    assert tool.main(['--from', 'mot', *rows, *given]) == 0
    assert f'belongs to no video, give it as NAME=FILE: {movie}' in capsys.readouterr().out
    assert all('width' not in video for video in json.loads(out.read_text())['videos'])
    assert tool.main(['--from', 'mot', *rows, *given, '--fps', '2']) == 1
    assert "the rate of video 'c' is not known" in capsys.readouterr().err
    assert tool.main(['--from', 'mot', rows[0], *given]) == 0
    assert json.loads(out.read_text())['videos'][0]['width'] == SIZE[0]


def test_of_two_sources_a_file_without_a_name_is_that_of_none(tool, movie, write, pair, capsys):
    for name in ('a', 'b'):
        write(f'{name}/{name}_1.txt', '0 0.5 0.5 0.5 0.5 3\n')
    sources = [str(pair.parent / name) for name in ('a', 'b')]
    arguments = [
        '--from',
        'yolo-track',
        *sources,
        '--video',
        str(movie),
        '--out',
        str(write('out', '')),
    ]
    assert tool.main(arguments) == 1
    assert "video 'a' are shares of the frame, whose size is not" in capsys.readouterr().err


def test_no_frame_is_written_where_the_boxes_are_refused(tool, movie, tmp_path, write, capsys):
    rows = '1,1,0,0,4,4,1,1,1\n1,2,0,0,4,4,1,2,1\n'
    path = write('walk/gt/gt.txt', rows)
    write('walk/gt/labels.txt', 'cat\nCat\n')
    images, out = tmp_path / 'images', tmp_path / 'out'
    arguments = ['--from', 'mot', str(path.parents[1]), '--video', str(movie), '--frames',
                 str(images), '--out', str(out)]  # fmt: skip
    assert tool.main(arguments) == 1
    assert 'classes must be unique' in capsys.readouterr().err
    assert not images.exists() and not out.exists()
    (out / 'walk' / 'gt').mkdir(parents=True)
    (out / 'walk' / 'gt' / 'gt.txt').touch()
    assert tool.main([*arguments, '--to', 'mot']) == 1
    assert 'gt.txt exists already' in capsys.readouterr().err
    assert not images.exists()
    assert tool.main([*arguments, '--to', 'mot', '--overwrite']) == 0
    assert grey(images) == {'000001': 0}
