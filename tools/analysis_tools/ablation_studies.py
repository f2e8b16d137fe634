"""What ``run_ablation.py`` can run: the rows of the paper's tables in small, and rows beyond it.

A row is a config of the tiny network and what is changed in it. Rows of a study share data, steps
and seeds, so that they differ in one thing only. The studies run on any of the small data sets;
:data:`SETS` names the configs of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmboxvis._cli import UsageError

ROOT = Path(__file__).resolve().parents[2]

Options = Mapping[str, Any]


@dataclass(frozen=True)
class DataSet:
    """Configs of one small data set.

    Attributes:
        boxes: trained from boxes.
        pixels: its twin, trained from masks, where there is such a config.
        pretrained_boxes: the first on a pretrained backbone, where there is such a config.
        pretrained_pixels: the second on a pretrained backbone.
        folds: changes that choose the videos to train and to score on. The run of seed s is that
            of fold s modulo their number.
        as_in_paper: changes that take back what ``boxes`` has beyond the paper and rows are about.
        start: config whose weights all rows start from, as the paper's from those for COCO
            instances; ``None`` to start from nothing.
    """

    boxes: str
    pixels: str | None = None
    pretrained_boxes: str | None = None
    pretrained_pixels: str | None = None
    folds: tuple[Options, ...] = ()
    as_in_paper: Options = field(default_factory=dict)
    start: str | None = None

    def config(self, row: Row) -> str | None:
        """Path of the config that a row starts from; ``None`` where this set has none."""
        if row.pretrained:
            return self.pretrained_pixels if row.pixels else self.pretrained_boxes
        return self.pixels if row.pixels else self.boxes

    def changes(self, row: Row, seed: int) -> Options:
        """To the config, for the run of a row with this seed."""
        fold = self.folds[seed % len(self.folds)] if self.folds else {}
        return {**({} if row.pixels else self.as_in_paper), **fold, **row.options}


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: as it stands in the table; also names the folder of its runs.
        options: changes to the config, dotted keys as for ``--cfg-options``.
        pixels: whether it starts from the pixel-supervised twin's config.
        pretrained: whether it starts from the config on a pretrained backbone.
        paper: AP in percent by data set, where the paper has this row.
    """

    name: str
    options: Options = field(default_factory=dict)
    pixels: bool = False
    pretrained: bool = False
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Rows to compare.

    Attributes:
        title: heading of the table.
        claim: what the paper says of the rows, or what is asked.
        rows: in the order of the table.
        sets: keys of :data:`SETS` that it runs on; empty for all.
        by_steps: whether each row adds to the one before, which it is compared with; else all are
            compared with the first.
    """

    title: str
    claim: str
    rows: tuple[Row, ...]
    sets: tuple[str, ...] = ()
    by_steps: bool = False


# each fold has one of the three videos with several objects
_DAVIS_FOLDS = (
    ('dogs-jump', 'blackswan', 'car-roundabout'),
    ('bmx-trees', 'camel', 'libby'),
    ('horsejump-high', 'cows', 'dog'),
)


def _videos(train: Sequence[str], test: Sequence[str], *, of_mix: bool = False) -> Options:
    """Trains on some videos and scores on others.

    Of a mix, the first set is that of the videos, and those it trains on are scored besides.
    """
    trained = 'train_dataloader.dataset.datasets.0' if of_mix else 'train_dataloader.dataset'
    scored = ('val_dataloader.dataset', 'test_dataloader.dataset')
    evaluators = ('val_evaluator', 'test_evaluator')
    seen = ('more_tests.seen.dataset', 'more_tests.seen.evaluator') if of_mix else ()
    chosen = {
        **dict.fromkeys((trained, *seen), train),
        **dict.fromkeys((*scored, *evaluators), test),
    }
    return {f'{where}.videos': list(names) for where, names in chosen.items()}


# all categories taken for one: a class that only videos left out have could not be learnt
_ONE_CLASS: Options = {
    'model.network.track_head.num_classes': 1,
    **{
        f'{split}_dataloader.dataset.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in dict(classes=['object'], category_map='object').items()
    },
    **{
        f'{split}_evaluator.{key}': value
        for split in ('val', 'test')
        for key, value in dict(class_agnostic=True, category_ids=[1]).items()
    },
}


_DAVIS_VIDEOS = [name for fold in _DAVIS_FOLDS for name in fold]
_DAVIS_SPLITS = [
    ([name for name in _DAVIS_VIDEOS if name not in fold], fold) for fold in _DAVIS_FOLDS
]
_DAVIS = DataSet(
    'configs/boxvis/boxvis_tiny_davis-mini.py',
    'configs/baselines/mask2former-vis_tiny_davis-mini.py',
    'configs/boxvis/boxvis_effnet-lite0_davis-mini.py',
    'configs/baselines/mask2former-vis_effnet-lite0_davis-mini.py',
)

_PAIR = 'model.criterion.loss_pair'
_PSEUDO = 'model.criterion.loss_pseudo'
_REFINE = 'model.pseudo_masks.refine'


def _threshold(mode: str, value: float = 0.5) -> Options:
    return {'model.confidence': dict(type='ConfidenceSchedule', mode=mode, value=value)}


# the teacher's masks as they are, and their weights
_UNREFINED: Options = {
    _REFINE: None,
    f'{_PSEUDO}.mask_weight': 2.5,
    f'{_PSEUDO}.dice_weight': 2.5,
    f'{_PSEUDO}.importance_sample_ratio': 0.5,
}
_TOYVIS_HARD = DataSet(
    'configs/boxvis/boxvis_tiny_toyvis-hard.py',
    'configs/baselines/mask2former-vis_tiny_toyvis-hard.py',
    as_in_paper=_UNREFINED,
)

# started like the paper's networks, which tell objects apart: what is there for networks from
# nothing goes
_STARTED = replace(
    _TOYVIS_HARD,
    as_in_paper={
        **_UNREFINED,
        f'{_PAIR}.num_neighbors': 7,
        'model.pair_warmup': 0.0,
        **_threshold('rising'),
    },
    start='configs/baselines/mask2former_tiny_toyvis-stills.py',
)

# the fifth of the training videos of ToyVIS-hard whose objects move most: 0.38 to 0.9 of their
# size from a frame to the next, on average
_FAST_VIDEOS = [
    f'train_{number:04d}'
    for number in (
        *(14, 19, 21, 24, 26, 28, 31, 32, 36, 39, 48, 52, 54, 57, 63, 70, 77, 80, 88, 91),
        *(92, 94, 95, 99, 100, 106, 116, 121, 122, 123, 126, 137, 142, 145, 162, 169, 173, 176),
        *(181, 196),
    )
]
_ON_FAST_VIDEOS: Options = {
    **_videos(_FAST_VIDEOS, _FAST_VIDEOS),
    **{f'{split}_dataloader.dataset.split': 'train' for split in ('val', 'test')},
    **{
        f'{split}_evaluator.ann_file': 'data/toyvis_hard/train/instances.json'
        for split in ('val', 'test')
    },
}

SETS = {
    'toyvis': DataSet(
        'configs/boxvis/boxvis_tiny_toyvis.py',
        'configs/baselines/mask2former-vis_tiny_toyvis.py',
        as_in_paper={f'{_PAIR}.dilation': 4, f'{_PAIR}.loss_weight': 1.0, **_UNREFINED},
    ),
    'toyvis-hard': _TOYVIS_HARD,
    'toyvis-hard-started': _STARTED,
    'toyvis-hard-fast': replace(_STARTED, folds=(_ON_FAST_VIDEOS,)),
    'davis_mini': _DAVIS,
    'davis_seen': replace(_DAVIS, folds=({**_ONE_CLASS, **_videos(_DAVIS_VIDEOS, _DAVIS_VIDEOS)},)),
    'davis_folds': replace(
        _DAVIS, folds=tuple({**_ONE_CLASS, **_videos(*split)} for split in _DAVIS_SPLITS)
    ),
    'mix_folds': DataSet(
        'configs/ablations/table5-small_tiny.py',
        folds=tuple(_videos(*split, of_mix=True) for split in _DAVIS_SPLITS),
    ),
}

_NO_PSEUDO: Options = {
    'model.pseudo_masks': None,
    'model.criterion.loss_pseudo': None,
}
_WITHIN_FRAMES: Options = {f'{_PAIR}.num_neighbors': 2}

_BY_NEIGHBORS = dict(type='AffinityRefinement', theta=5.0)
# lists, which replace what a config has; dicts would be merged into it
_REFINED: Options = {_REFINE: [_BY_NEIGHBORS]}
_BY_COLOR_MODELS: Options = {_REFINE: [dict(type='ColorModelRefinement'), _BY_NEIGHBORS]}
# weighed and sampled like true masks
_RELIED_ON: Options = {
    f'{_PSEUDO}.mask_weight': 5.0,
    f'{_PSEUDO}.dice_weight': 5.0,
    f'{_PSEUDO}.importance_sample_ratio': 0.75,
}

_WEIGHED: Options = {'model.criterion.weigh_pseudo_masks': True}
# the 4 spatial neighbours stay where the set's config has them
_MATCHED: Options = {
    f'{_PAIR}.type': 'TemporalMatchLoss',
    f'{_PAIR}.num_neighbors': 4,
    f'{_PAIR}.match_thr': 0.1,
}


def _pairs(neighbors: int, **switches: bool) -> Options:
    """STPA alone; switches not given are on where their neighbours are used."""
    return {
        **_NO_PSEUDO,
        f'{_PAIR}.num_neighbors': neighbors,
        **{f'{_PAIR}.{name}': value for name, value in switches.items()},
    }


def _paper(ytvis21: float, ovis: float) -> dict[str, float]:
    return {'YTVIS21': ytvis21, 'OVIS': ovis}


def _mix(weights: Sequence[float]) -> Options:
    return {'train_dataloader.sampler.weights': list(weights)}


STUDIES = {
    'table3': Study(
        'Losses of the baseline (Table 3)',
        'projection < + pairwise affinity < + pseudo masks < + dynamic threshold',
        (
            Row('projection', {**_NO_PSEUDO, _PAIR: None}, paper=_paper(36.7, 18.7)),
            Row('+ pairs', {**_NO_PSEUDO, **_WITHIN_FRAMES}, paper=_paper(39.3, 22.1)),
            Row(
                '+ pseudo masks',
                {**_WITHIN_FRAMES, **_threshold('constant')},
                paper=_paper(40.5, 23.3),
            ),
            Row(
                '+ dynamic threshold',
                {**_WITHIN_FRAMES, **_threshold('rising')},
                paper=_paper(41.2, 23.9),
            ),
        ),
        by_steps=True,
    ),
    'table4': Study(
        'Parts of the STPA loss, without pseudo masks (Table 4)',
        'spatial < + temporal, colour < + patch correlation < + centre shift < + diagonals',
        (
            Row('2 spatial', _pairs(2), paper=_paper(41.1, 25.5)),
            Row(
                '2 + 3, colour',
                _pairs(5, use_patch_corr=False, use_center_shift=False),
                paper=_paper(41.9, 26.2),
            ),
            Row(
                '+ correlation',
                _pairs(5, use_patch_corr=True, use_center_shift=False),
                paper=_paper(42.3, 25.0),
            ),
            Row('+ centre shift', _pairs(5), paper=_paper(42.6, 26.5)),
            Row('2 + 5, all', _pairs(7), paper=_paper(43.0, 26.9)),
        ),
        by_steps=True,
    ),
    'shift': Study(
        'What following the centre of the box is worth, by the weight of the pairs',
        'still < following on fast videos; each row against the one before',
        tuple(
            Row(f'{name}, weight {weight}', {**options, f'{_PAIR}.loss_weight': float(weight)})
            for weight in (1, 4)
            for name, options in (
                ('still', _pairs(7, use_center_shift=False)),
                ('following', _pairs(7)),
            )
        ),
        by_steps=True,
    ),
    'table5': Study(
        'Sources of clips (Table 5): real videos : drawn videos : images',
        'a second set helps if it is drawn from less often than the first; images help further',
        (
            Row('1 : 0 : 0', _mix([1, 0, 0]), paper={'YTVIS21': 42.8}),
            Row('0 : 1 : 0', _mix([0, 1, 0]), paper={'OVIS': 26.2}),
            Row('1 : 1 : 0', _mix([1, 1, 0]), paper={**_paper(41.5, 27.0), 'BVISD': 32.7}),
            Row('2 : 1 : 0', _mix([2, 1, 0]), paper={**_paper(42.3, 27.9), 'BVISD': 34.2}),
            Row('2 : 1 : 1', _mix([2, 1, 1]), paper={**_paper(43.2, 29.0), 'BVISD': 35.5}),
            Row('2 : 0 : 1', _mix([2, 0, 1])),
        ),
        sets=('mix_folds',),
    ),
    'supervision': Study(
        'Boxes against masks (Tables 3, 5 and 6)',
        'baseline from boxes < BoxVIS from boxes, close to the twin from masks',
        (
            Row('M2F-VIS-box', {**_WITHIN_FRAMES}, paper=_paper(41.2, 23.9)),
            Row('BoxVIS', paper=_paper(42.8, 26.2)),
            Row('BoxVIS, refined pseudo masks', {**_REFINED, **_RELIED_ON}),
            Row('BoxVIS, refined by colour models', {**_BY_COLOR_MODELS, **_RELIED_ON}),
            Row('M2F-VIS, masks', pixels=True, paper={'YTVIS21': 43.2}),
        ),
    ),
    'pseudo': Study(
        'Which pseudo masks supervise',
        'paper: falling threshold; released program: rising; see docs/en/paper_vs_code.md, row 2',
        (
            Row('none', _NO_PSEUDO),
            Row('rising, 0.5 to 0.88', _threshold('rising')),
            Row('falling, 0.88 to 0.5', _threshold('falling')),
            Row('above 0.5', _threshold('constant')),
            Row('above 0.3', _threshold('constant', 0.3)),
            Row('weighed by score', _WEIGHED),
        ),
    ),
    'pairs': Study(
        'How far apart and how like the points of a pair are',
        'nothing is claimed; fit_masks.py tells in minutes what fits a data set',
        (
            *(Row(f'{far} pixels apart', {f'{_PAIR}.dilation': far}) for far in (2, 4, 6, 8)),
            *(Row(f'as like as {like}', {f'{_PAIR}.color_thr': like}) for like in (0.3, 0.1, 0.02)),
            Row('2 + 5 neighbours', {f'{_PAIR}.num_neighbors': 7}),
            Row('4 + 5 neighbours', {f'{_PAIR}.num_neighbors': 9}),
        ),
    ),
    'pretrained': Study(
        'A pretrained small backbone on real videos',
        'nothing is claimed; the paper starts from weights for COCO instances',
        (
            Row('from scratch, boxes'),
            Row('from scratch, masks', pixels=True),
            Row('pretrained, boxes', pretrained=True),
            Row(
                'pretrained, boxes, more pairs and pseudo masks',
                {f'{_PAIR}.color_thr': 0.1, **_threshold('constant', 0.3)},
                pretrained=True,
            ),
            Row(
                'pretrained, boxes, refined by colour models',
                {**_BY_COLOR_MODELS, **_RELIED_ON},
                pretrained=True,
            ),
            Row('pretrained, masks', pixels=True, pretrained=True),
        ),
    ),
    'beyond': Study(
        'Beyond the paper, one at a time',
        'nothing is claimed; what wins over three seeds may become a default',
        (
            Row('BoxVIS'),
            Row('matched patches', _MATCHED),
            Row('weighed pseudo masks', _WEIGHED),
            Row('refined pseudo masks', _REFINED),
            Row('refined pseudo masks, weighed like true ones', {**_REFINED, **_RELIED_ON}),
            Row('refined by colour models', _BY_COLOR_MODELS),
            Row(
                'refined by colour models, weighed like true ones',
                {**_BY_COLOR_MODELS, **_RELIED_ON},
            ),
            Row('outside of boxes known', {f'{_PAIR}.anchor_outside': True}),
            # only the configs of drawn videos fill by the centres of pixels
            Row('boxes filled as in the paper', {'model.box_centers': False}),
            Row('pair warm-up', {'model.pair_warmup': 0.3}),
            Row('jittered student', {'model.student_view': dict(type='ColorJitter')}),
        ),
    ),
}


def study_rows(study: str, names: Sequence[str] | None = None) -> list[Row]:
    """Rows of a study, in its order: those that are named, or all.

    Raises:
        UsageError: For a row that is not in the study.
    """
    rows = STUDIES[study].rows
    known = [row.name for row in rows]
    unknown = set(names or ()) - set(known)
    if unknown:
        raise UsageError(f'{study} has no row {sorted(unknown)}; its rows are {known}')
    return [row for row in rows if not names or row.name in names]


def row_config(data: str, row: Row, seed: int) -> Config:
    """The config of a set with the changes of a row, for the run of a seed.

    Raises:
        UsageError: If the set has no config for the row.
    """
    source = SETS[data].config(row)
    if source is None:
        raise UsageError(f'the set {data} has no config for the row {row.name!r}')
    cfg = Config.fromfile(ROOT / source)
    cfg.merge_from_dict(dict(SETS[data].changes(row, seed)))
    return cfg
