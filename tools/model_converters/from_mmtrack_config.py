"""Turns a VIS config of mmtrack 1.x into one for this package.

    python tools/model_converters/from_mmtrack_config.py SRC DST [--boxes-only]

SRC is a Mask2Former config for video instance segmentation, of mmtrack 1.x or of mmdet 3.x, into
which it moved; its ``_base_`` files are read too. DST describes the same network, data and
schedule, as Mask2FormerVIS, or with --boxes-only as BoxVIS, which learns from the boxes alone.

Every setting of SRC is carried over, or has no effect here, or is named in comments at the top of
DST, which are printed as well.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from mmtrack_config.data import (
    convert_evaluator,
    convert_loader,
    convert_test_set,
    convert_training_set,
)
from mmtrack_config.model import convert_model
from mmtrack_config.reading import read_config
from mmtrack_config.runtime import convert_hooks, convert_runtime, convert_schedule
from mmtrack_config.settings import ConversionError, Settings
from mmtrack_config.source import to_source

from mmboxvis.files import require_writable, whole_file


def convert(content: Mapping[str, Any], *, boxes_only: bool = False) -> tuple[dict, list[str]]:
    """Converts a config.

    Args:
        content: as :func:`read_config` returns it.
        boxes_only: BoxVIS in place of Mask2FormerVIS.

    Returns:
        The converted config, and one line for each thing that a reader has to know of it:
        settings that have another effect here, then settings that were left out.

    Raises:
        ConversionError: if the model, a data set or the optimiser is none that can be converted.
    """
    notes: list[str] = []
    root = Settings(content, '', notes)
    if 'model' not in root:
        raise ConversionError('the config defines no model')
    sets: dict[str, dict[str, Any]] = {}
    data: dict[str, Any] = {}
    for split in ('train', 'val', 'test'):
        if f'{split}_dataloader' in root:
            loader = root.part(f'{split}_dataloader')
            part = loader.part('dataset')
            training = split == 'train'
            sets[split] = (
                convert_training_set(part, boxes_only) if training else convert_test_set(part)
            )
            data[f'{split}_dataloader'] = convert_loader(loader, sets[split], training)
        if f'{split}_evaluator' in root and split in sets:
            evaluator = root.part(f'{split}_evaluator')
            data[f'{split}_evaluator'] = convert_evaluator(evaluator, sets[split])
    length = sets.get('train', {}).get('clip', {}).get('num_frames')
    converted = dict(
        default_scope='mmboxvis',
        model=convert_model(root.part('model'), boxes_only, length),
        **data,
        **convert_schedule(root),
        **convert_hooks(root, boxes_only),
        **convert_runtime(root),
    )
    return converted, [*notes, *_left_out(root)]


def _left_out(root: Settings) -> Iterator[str]:
    """Unread settings; names at the top that no runner knows only helped to write the others."""
    known = {*inspect.signature(Runner.__init__).parameters, 'custom_imports', 'compile'}
    for line in root.left():
        name = line.partition(' = ')[0]
        if '.' in name or name in known:
            yield f'left out: {line}'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='config of mmtrack 1.x or mmdet 3.x')
    parser.add_argument('dst', help='config to write')
    parser.add_argument('--boxes-only', action='store_true', help='BoxVIS: learn from boxes alone')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Converts one file and says what to know of it."""
    args = parse_args(argv)
    try:
        if Path(args.src).resolve() == Path(args.dst).resolve():
            raise ConversionError('src and dst are the same file')
        converted, notes = convert(read_config(args.src), boxes_only=args.boxes_only)
        require_writable(args.dst)
        with whole_file(args.dst) as temporary:
            temporary.write_text(to_source(converted, notes, Path(args.src).name), encoding='utf-8')
    except (ConversionError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{converted["model"]["type"]}: {args.dst}')
    for note in notes:
        print(f'- {note}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
