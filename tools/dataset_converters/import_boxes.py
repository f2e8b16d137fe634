r"""Turns boxes drawn elsewhere into the json this package trains from, and back.

Examples::

    python tools/dataset_converters/import_boxes.py --from cvat-video annotations.xml \
        --video walk.mp4 --frames data/mine/JPEGImages --out data/mine/boxes.json
    python tools/dataset_converters/import_boxes.py --from mot MOT17/train --class-map map.yml \
        --out data/mot17/boxes.json
    python tools/dataset_converters/import_boxes.py --from ytvis boxes.json --to cvat-video \
        --out for_cvat
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from mmboxvis.datasets.importers import (
    FRAME_NAME,
    IDENTITIES,
    MAX_FRAMES,
    READERS,
    WRITERS,
    BoxSet,
    ReadOptions,
    Video,
    check_images,
    extract_frames,
    fill_sizes,
    frames_in_movie,
    join,
    map_classes,
    movie_of,
    probe,
    read_class_map,
    read_names,
    thin,
    thin_to_rate,
    to_ytvis,
)
from mmboxvis.files import ImageRoot, whole_file, whole_files

FOR_ALL = frozenset({'size', 'images', 'movies', 'single', 'name_template', 'max_frames'})
"""Fields of ReadOptions that are used with every format."""


NUMBERS_IN_NAMES = ('labelme', 'cvat-images', 'masks', 'ytvis', 'coco')
"""Formats that may number frames in the names of images only, from 0 or from 1."""


COUNTED = ('mot', 'yolo-track', 'coco-vid')
"""Formats that count the frames that there are, without a gap."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', nargs='+', type=Path, help='file or folder to read; or several')
    parser.add_argument('--from', dest='format', required=True, choices=READERS)
    parser.add_argument(
        '--to', default='ytvis', choices=('ytvis', *WRITERS), help='what to write (ytvis)'
    )
    parser.add_argument(
        '--out', required=True, type=Path, help='json to write; a folder for several files'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace images and files of a folder'
    )
    parser.add_argument(
        '--class-map',
        type=Path,
        metavar='FILE',
        help='json or yaml: class of the source to ours, null to drop it, "*" for all others',
    )
    parser.add_argument(
        '--count-frames',
        action='store_true',
        help='for --to cvat-video: number frames 0, 1, 2, ... in their order, for a task that is '
        'made of the images',
    )
    add_frame_arguments(parser.add_argument_group('frames'))
    add_format_arguments(parser.add_argument_group('only for some formats'))
    args = parser.parse_args(argv)
    if args.frames and not args.video:
        parser.error('--frames needs the video files to take frames from; give them with --video')
    if args.linked and not args.images:
        parser.error('--linked names folders below --images; give that too')
    if args.count_frames and args.to != 'cvat-video':
        parser.error('--count-frames is for --to cvat-video')
    if args.keep_masks and args.to not in ('ytvis', 'vis-results'):
        parser.error(f'--keep-masks: {args.to} is written without masks')
    return args


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not positive')
    return value


def rate(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a rate')
    return value


def add_frame_arguments(group: argparse._ArgumentGroup) -> None:
    """Adds what is about frames and images."""
    group.add_argument(
        '--names',
        metavar='TEMPLATE',
        help=f'how images are called, such as {FRAME_NAME}; also {{stem}}, of the own name',
    )
    group.add_argument(
        '--size', type=positive, nargs=2, metavar=('WIDTH', 'HEIGHT'), help='of frames'
    )
    group.add_argument(
        '--images', type=Path, help='root of all images, to read sizes from; none may be missing'
    )
    group.add_argument(
        '--linked',
        nargs='+',
        default=(),
        metavar='DIR',
        help='folders below --images that may be links, such as OVIS/train',
    )
    group.add_argument(
        '--video',
        nargs='+',
        default=(),
        metavar='[NAME=]FILE',
        help='video files; without a name, a file belongs to the video of the same name',
    )
    group.add_argument(
        '--frames', type=Path, metavar='DIR', help='write the annotated frames of --video here'
    )
    group.add_argument(
        '--video-step',
        type=positive,
        default=1,
        help='frames of the video for one annotated frame (1)',
    )
    thinning = group.add_mutually_exclusive_group()
    thinning.add_argument('--every', type=positive, metavar='N', help='keep the first of N frames')
    thinning.add_argument('--fps', type=rate, help='keep so many frames a second')
    group.add_argument(
        '--max-frames', type=positive, default=MAX_FRAMES, help=f'longest video ({MAX_FRAMES})'
    )


def add_format_arguments(group: argparse._ArgumentGroup) -> None:
    """Adds what only some formats take."""
    group.add_argument('--first-frame', type=int, help='number of the first frame')
    group.add_argument(
        '--origin', type=int, default=0, choices=(0, 1), help='coordinate of the first pixel (0)'
    )
    group.add_argument(
        '--identity',
        default='group_id',
        help=f'what makes shapes of several images one object: {", ".join(IDENTITIES)} or '
        'attribute:NAME (group_id)',
    )
    group.add_argument('--label', help='class of boxes that have none (object; mot: pedestrian)')
    group.add_argument('--labels', type=Path, metavar='FILE', help='class names, one a line')
    group.add_argument(
        '--last-column', choices=('id', 'conf'), help='what the last of six YOLO columns is'
    )
    group.add_argument('--keep-masks', action='store_true', help='write masks too')
    group.add_argument(
        '--annotations', type=Path, metavar='FILE', help='CocoVID json that results are of'
    )


def read_options(args: argparse.Namespace) -> ReadOptions:
    """The options for the reader.

    Raises:
        ValueError: if an option means nothing to the format.
    """
    movies = []
    for text in args.video:
        name, sign, path = text.partition('=')
        movies.append((name, Path(path)) if sign else (None, Path(text)))
    options = ReadOptions(
        size=None if args.size is None else (args.size[0], args.size[1]),
        images=None if args.images is None else ImageRoot(args.images, args.linked),
        movies=tuple(movies),
        single=len(args.source) == 1,
        name_template=args.names or (FRAME_NAME if args.frames else None),
        first_frame=args.first_frame,
        origin=args.origin,
        identity=args.identity,
        label=args.label,
        labels=() if args.labels is None else read_names(args.labels),
        last_column=args.last_column,
        keep_masks=args.keep_masks,
        annotations=args.annotations,
        max_frames=args.max_frames,
    )
    takes = READERS[args.format].takes | FOR_ALL
    for field in fields(options):
        if field.name not in takes and getattr(options, field.name) != field.default:
            raise ValueError(
                f'--{field.name.replace("_", "-")} means nothing to --from {args.format}'
            )
    return options


def read_boxes(args: argparse.Namespace, options: ReadOptions) -> BoxSet:
    """Everything up to writing: reading, classes, sizes, fewer frames.

    Raises:
        ValueError: if a source is broken or holds no object.
        OSError: if a file is missing.
    """
    boxes = join([READERS[args.format].read(source, options) for source in args.source])
    if args.class_map is not None:
        boxes = map_classes(boxes, read_class_map(args.class_map))
    boxes = fill_sizes(boxes, options)
    if args.every is not None:
        boxes = thin(boxes, args.every)
    elif args.fps is not None:
        only = len(boxes.videos) == 1
        rates = [rate_of(v, options, args.video_step, only=only) for v in boxes.videos]
        boxes = thin_to_rate(boxes, args.fps, rates)
    if options.images is not None and args.frames is None:  # frames may be written there
        check_images(boxes, options.images)
    boxes = note_unknown_sizes(boxes)
    if not any(video.tracks for video in boxes.videos):
        told = ''.join(f'; {count} x {what}' for what, count in boxes.notes.items())
        names = ', '.join(map(str, args.source))
        raise ValueError(f'{names}: no box of an object that can be followed{told}')
    return boxes


def note_unknown_sizes(boxes: BoxSet) -> BoxSet:
    """The set, with a note if the size of videos is not known."""
    count = sum(video.width is None or video.height is None for video in boxes.videos)
    what = 'videos whose size is not known; --size, --images or --video tells it'
    return replace(boxes, notes={**boxes.notes, what: count}) if count else boxes


def rate_of(video: Video, options: ReadOptions, step: int, *, only: bool) -> float:
    """Annotated frames a second of a video; ``only`` if there is no other.

    Raises:
        ValueError: if neither the source nor the video file tells.
    """
    if video.fps is not None:
        return video.fps
    movie = movie_of(options.movies, video.name, only=only)
    found = None if movie is None else probe(movie).fps
    if found is None:
        raise ValueError(
            f'the rate of video {video.name!r} is not known; give its file with --video '
            f'{video.name}=FILE, or use --every'
        )
    apart = video.numbers[1] - video.numbers[0] if len(video.numbers) > 1 else 1
    return found / (step * apart)


def need_first_frame(video: Video, args: argparse.Namespace) -> None:
    """Refuses names that begin at 1, of which nothing tells whether that is the first picture.

    Raises:
        ValueError: if so.
    """
    unsure = video.numbered and args.first_frame is None and args.format in NUMBERS_IN_NAMES
    if unsure and video.numbers[0] == 1:
        raise ValueError(
            f'the images of video {video.name!r} are numbered from 1: say --first-frame 1 if '
            'image 1 is the first picture of the video file, --first-frame 0 if the second is'
        )


def for_cvat(boxes: BoxSet, args: argparse.Namespace) -> BoxSet:
    """The set with frames as CVAT numbers them: pictures of a video file, or images in order.

    Raises:
        ValueError: if names begin at 1 and nothing tells whether that is the first picture.
    """
    if args.count_frames:
        return replace(boxes, videos=tuple(replace(v, numbered=False) for v in boxes.videos))
    for video in boxes.videos:
        try:
            need_first_frame(video, args)
        except ValueError as error:
            made = 'or --count-frames for a task of CVAT that is made of the images'
            raise ValueError(f'{error}; {made}') from error
    return replace(boxes, videos=tuple(in_pictures(v, args.video_step) for v in boxes.videos))


def in_pictures(video: Video, step: int) -> Video:
    """The video with the pictures of its file as the numbers of its frames.

    Raises:
        AnnotationError: if a frame is ahead of the first.
    """
    if not video.numbered:
        return video
    return replace(video, numbers=tuple(frames_in_movie(video, step=step)), first_number=0)


def note_lost_numbers(boxes: BoxSet, args: argparse.Namespace) -> BoxSet:
    """The set, with a note if the format that is written counts frames where they have gaps."""

    def loses(video: Video) -> bool:
        first, last = video.numbers[0], video.numbers[-1]
        cut = first > max(video.first_number, 1)  # names that begin at 1 stay as they are
        return video.numbered and (cut or last - first >= len(video.numbers))

    lost = sum(map(loses, boxes.videos))
    if args.to not in COUNTED or not lost:
        return boxes
    what = f'videos of which {args.to} counts the frames one by one; their numbers are lost'
    return replace(boxes, notes={**boxes.notes, what: lost})


def write_frames(boxes: BoxSet, args: argparse.Namespace, options: ReadOptions) -> None:
    """Takes the annotated frames out of the video files, if that is wanted.

    Raises:
        ValueError: if a video has no file, or frames without a number.
    """
    if args.frames is None:
        return
    jobs = []
    for video in boxes.videos:
        movie = movie_of(options.movies, video.name, only=len(boxes.videos) == 1)
        if movie is None:
            raise ValueError(
                f'no video file for video {video.name!r}; give it with --video {video.name}=FILE'
            )
        frames_in_movie(video)  # whether they are known, before any is written
        need_first_frame(video, args)
        jobs.append((video, movie))
    for video, movie in jobs:
        extract_frames(video, movie, args.frames, step=args.video_step, overwrite=args.overwrite)


def write_boxes(boxes: BoxSet, args: argparse.Namespace, options: ReadOptions) -> None:
    """Writes a file, or several into a folder, and the frames: whole or not at all.

    Raises:
        ValueError: if the output would replace the source, or cannot be written from these boxes.
        FileExistsError: if a file of a folder, or an image, exists already.
    """
    out: Path = args.out
    if any(out.exists() and out.samefile(source) for source in args.source):
        raise ValueError(f'--out {out} is the source itself; choose another name')
    if args.to == 'ytvis':
        files = {out.name: json.dumps(to_ytvis(boxes, keep_masks=args.keep_masks))}
    else:
        chosen = for_cvat(boxes, args) if args.to == 'cvat-video' else boxes
        files = dict(WRITERS[args.to](chosen))
    # frames come after all that can be refused, and ahead of the files that name them
    if args.to == 'ytvis' or (len(files) == 1 and out.suffix):
        with whole_file(out) as part:
            part.write_text(next(iter(files.values())), encoding='utf-8')
            write_frames(boxes, args, options)
        return
    with whole_files(out, list(files), overwrite=args.overwrite) as draft:
        for name, text in files.items():
            (draft / name).write_text(text, encoding='utf-8')
        write_frames(boxes, args, options)


def summary(boxes: BoxSet, out: str | os.PathLike[str]) -> str:
    """What was written, and what was left out."""
    tracks = [track for video in boxes.videos for track in video.tracks]
    lines = [
        f'{out}: {len(boxes.videos)} videos, {sum(len(v.numbers) for v in boxes.videos)} frames, '
        f'{len(tracks)} objects, {sum(len(track.boxes) for track in tracks)} boxes, '
        f'{len(boxes.classes)} classes ({", ".join(boxes.classes)})'
    ]
    lines += [f'  {count} x {what}' for what, count in boxes.notes.items()]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Imports or exports; returns the exit code."""
    args = parse_args(argv)
    try:
        options = read_options(args)
        boxes = read_boxes(args, options)
        write_boxes(boxes, args, options)
        boxes = note_lost_numbers(boxes, args)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(summary(boxes, args.out))
    return 0


if __name__ == '__main__':
    sys.exit(main())
