"""Converts released BoxVIS and Mask2Former checkpoints, and back.

    python tools/model_converters/from_official.py SRC DST [--which student|teacher]
    python tools/model_converters/from_official.py --reverse SRC DST

DST is a checkpoint that ``tools/test.py CONFIG DST`` and a config's ``load_from`` take.
"""

from __future__ import annotations

import argparse
import sys

from mmdet.utils import register_all_modules

from mmboxvis.apis.official import convert_official, read_ours, save_whole, to_official
from mmboxvis.files import require_writable


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='released .pkl or .pth; ours with --reverse')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--which',
        choices=['both', 'student', 'teacher'],
        default='both',
        help='keep student and teacher, the student alone, or the teacher in its place',
    )
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument(
        '--drop-classes',
        dest='keep_classes',
        action='store_false',
        default=None,
        help='leave the class layer out, as is done anyway with that of Mask2Former for COCO',
    )
    classes.add_argument(
        '--keep-classes', action='store_true', default=None, help='keep it whatever it is'
    )
    parser.add_argument(
        '--boxvis',
        action='store_true',
        default=None,
        help='a file without a teacher is of BoxVIS all the same, with its position code',
    )
    parser.add_argument('--reverse', action='store_true', help='write the released layout')
    args = parser.parse_args(argv)
    if args.reverse and (args.which != 'both' or args.keep_classes is not None or args.boxvis):
        parser.error('--reverse writes all that is there, it takes no other option')
    return args


def main(argv: list[str] | None = None) -> int:
    """Converts one file and says what it did."""
    args = parse_args(argv)
    register_all_modules(init_default_scope=False)
    try:
        if args.reverse:
            official = to_official(read_ours(args.src))
            require_writable(args.dst)
            save_whole(official if args.dst.endswith('.pkl') else dict(model=official), args.dst)
            print(f'{len(official)} tensors in the released layout: {args.dst}')
            return 0
        converted = convert_official(
            args.src, args.which, keep_classes=args.keep_classes, is_boxvis=args.boxvis
        )
        require_writable(args.dst)
        save_whole(converted, args.dst)
    except (OSError, ValueError, KeyError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    parts = {name.split('.')[0] for name in converted['state_dict']}
    print(f'{len(converted["state_dict"])} tensors ({", ".join(sorted(parts))}): {args.dst}')
    paired = converted['meta']['paired_frequencies']
    owner = 'Mask2Former' if paired else 'BoxVIS'
    print(
        f'position code of {owner}: to be tested as it is, it needs in the config '
        f'model.network.track_head.positional_encoding.paired_frequencies={paired}'
    )
    aside = converted['meta']['official_extras']
    layers = {name: tensor for name, tensor in aside.items() if '.class_embed.' in name}
    others = sorted(aside.keys() - layers.keys())
    if others:
        print(f'kept aside, no part of a network: {", ".join(others)}')
    for name, tensor in layers.items():
        if name.endswith('.bias'):
            print(
                f'left out: the class layer of {len(tensor) - 1} classes ({name.rpartition(".")[0]}'
                '), so that training starts a new one; --keep-classes keeps it'
            )
    return 0


if __name__ == '__main__':
    sys.exit(main())
