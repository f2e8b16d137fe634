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
    parser.add_argument(
        '--drop-classes',
        action='store_true',
        help='leave the class layer out; a layer of another size is left out on loading anyway',
    )
    parser.add_argument('--reverse', action='store_true', help='write the released layout')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Converts one file and says what it did."""
    args = parse_args(argv)
    register_all_modules(init_default_scope=False)
    try:
        if args.reverse:
            official = to_official(read_ours(args.src))
            save_whole(official if args.dst.endswith('.pkl') else dict(model=official), args.dst)
            print(f'{len(official)} tensors in the released layout: {args.dst}')
            return 0
        converted = convert_official(args.src, args.which, keep_classes=not args.drop_classes)
    except (OSError, ValueError, KeyError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    save_whole(converted, args.dst)
    parts = {name.split('.')[0] for name in converted['state_dict']}
    print(f'{len(converted["state_dict"])} tensors ({", ".join(sorted(parts))}): {args.dst}')
    dropped = sorted(converted['meta']['official_extras'])
    if dropped:
        print(f'kept aside, no part of a network: {", ".join(dropped)}')
    if args.drop_classes:
        print('the class layer was left out')
    return 0


if __name__ == '__main__':
    sys.exit(main())
