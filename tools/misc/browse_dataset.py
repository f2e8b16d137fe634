"""Draws training clips as they enter the network, and the pairs that supervise their masks.

    python tools/misc/browse_dataset.py CONFIG [--checkpoint CKPT] --out DIR

Each clip becomes a picture: its augmented and padded frames with boxes, classes and ids; the LAB
affinity; and, for the instances with most of them, the pairs of points that STPA keeps, with
arrows into the next frame. STPA compares features besides colours. They are those of the
checkpoint; without one, pairs are chosen by colour alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from rich.progress import track

from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.apis import load_weights
from mmboxvis.models.losses import STPALoss
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.registry import DATA_SAMPLERS, DATASETS, MODELS
from mmboxvis.structures import ClipTargets
from mmboxvis.visualization import clip_sheet


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('--checkpoint', help='weights whose features STPA compares')
    parser.add_argument('--out', default='work_dirs/browse_dataset', help='folder of the pictures')
    parser.add_argument('--suffix', choices=('.png', '.jpg'), default='.png')
    parser.add_argument('--num', type=int, default=8, help='how many clips (default: 8)')
    parser.add_argument('--instances', type=int, default=2, help='instances zoomed (default: 2)')
    parser.add_argument('--seed', type=int, default=0, help='chooses clips and augmentation')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


class ClipBrowser:
    """Loads clips as training does, fills their boxes, and pairs their points as its loss does.

    Args:
        cfg: a config of BoxVIS.
        checkpoint: weights of its model, or ``None`` to compare colours only.
    """

    def __init__(self, cfg: Config, checkpoint: str | None) -> None:
        self.dataset = DATASETS.build(cfg.train_dataloader.dataset)
        sampler = dict(cfg.train_dataloader.sampler)
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=self.dataset))
        self.preprocessor = MODELS.build(cfg.model.data_preprocessor)
        options = ('released_boxes', 'box_centers')
        self.filling = {name: cfg.model.get(name, False) for name in options}
        settings = dict(cfg.model.get('criterion', {}).get('loss_pair') or dict(type='STPALoss'))
        if settings['type'] != 'STPALoss':
            settings = dict(type='STPALoss', num_neighbors=2)
        self.model: Any = None
        if checkpoint is not None:
            self.model = MODELS.build(cfg.model).eval()
            load_weights(self.model, checkpoint)
        else:
            settings['use_patch_corr'] = False
        self.loss_pair: STPALoss = MODELS.build(settings)

    @property
    def how(self) -> str:
        """What pairs are chosen by."""
        return 'colours and features' if self.loss_pair.use_patch_corr else 'colours'

    @torch.no_grad()
    def sheet(self, index: int, max_instances: int, path: Path) -> np.ndarray:
        """Draws one clip, drawn anew from numpy's random numbers."""
        clip = self.dataset[index]
        batch = self.preprocessor(pseudo_collate([clip]), True)
        rgb, [sample] = batch['rgb'][0], batch['data_samples']
        targets = ClipTargets.from_data_sample(
            sample, (rgb.shape[-2], rgb.shape[-1]), **self.filling
        )
        features = None
        if self.loss_pair.use_patch_corr:
            features = self.model.student(batch['inputs'], last_only=True)[-1].mask_features[0]
        lab = rgb_to_lab(rgb)
        pairs = self.loss_pair.build_pairs(lab, features, targets.boxes, targets.box_masks)
        frames = rgb.flip(1).byte().permute(0, 2, 3, 1).contiguous().numpy()
        numbers = ', '.join(str(frame) for frame in sample.frame_ids)
        return clip_sheet(
            frames,
            targets,
            lab,
            pairs,
            class_names=self.dataset.metainfo['classes'],
            title=f'{sample.video_name}, frames {numbers}; pairs chosen by {self.how}',
            max_instances=max_instances,
            path=path,
        )


def main(argv: list[str] | None = None) -> int:
    """Writes the pictures."""
    args = parse_args(argv)
    with one_line_errors('browse_dataset.py'):
        cfg = read_config(args.config, args.cfg_options)
    init_default_scope('mmboxvis')
    try:
        np.random.seed(args.seed)
        torch.manual_seed(args.seed)
        cfg.train_dataloader.sampler['seed'] = args.seed
        browser = ClipBrowser(cfg, args.checkpoint)
        indices = list(itertools.islice(browser.sampler, args.num))
        for number, index in enumerate(track(indices, 'clips')):
            browser.sheet(index, args.instances, Path(args.out, f'clip_{number:03}{args.suffix}'))
    except (OSError, ValueError) as error:
        sys.exit(f'browse_dataset.py: error: {error}')
    print(f'{len(indices)} picture(s) in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
