"""The study runner: what is planned, what is skipped, what the report says."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config

from mmboxvis._cli import UsageError
from mmboxvis.datasets import generate_toyvis
from mmboxvis.evaluation.functional import GroundTruth
from mmboxvis.registry import MODELS
from tests.test_analysis_tools import load

STUDIES = ('table3', 'table4', 'shift', 'supervision', 'pseudo', 'beyond')


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load('run_ablation')


def args_of(tool: ModuleType, out: Path, *more: str) -> Any:
    return tool.parse_args(['table4', '--set', 'toyvis', '--seeds', '0', '--out', str(out), *more])


def fake_tool(run: Any, _: int, name: str, *arguments: Any) -> None:
    """Leaves what tools/train.py and tools/test.py leave, with a score that grows by row."""
    scores = {'2 spatial': 0.2, '+ centre shift': 0.3}
    if name == 'train.py':
        config = arguments[0]
        (run.folder / config.name).write_text(f'{config.read_text()}launcher = None\n')
        (run.folder / 'last_checkpoint').write_text('iter_9.pth')
        log = run.folder / 'stamp' / 'vis_data'
        log.mkdir(parents=True, exist_ok=True)
        records = [dict(step=s, loss=1.0, loss_pair=0.1 * s, lr=0.1) for s in (3, 6, 9)]
        (log / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
        return
    score = scores.get(run.row.name, 0.25) + 0.01 * run.seed
    outputs = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    if arguments[0].stem != 'config':
        score += 0.4  # of a further test set
    outputs['--metrics-out'].write_text(json.dumps(dict.fromkeys(('AP', 'AP_50', 'AP_75'), score)))
    outputs['--out'].write_text('[]')


@pytest.fixture
def faked(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def call(run: Any, threads: int, name: str, *arguments: Any) -> None:
        if isinstance(run, tool.Start):
            calls.append(f'{name} {run.label}')
            run.weights.touch()
            return
        calls.append(
            f'{name} {run.row.name} {run.seed}{" resumed" if "--resume" in arguments else ""}'
        )
        fake_tool(run, threads, name, *arguments)

    class Quality:
        mean = 0.5

    monkeypatch.setattr(tool, '_tool', call)
    monkeypatch.setattr(tool, 'mean_best_iou', lambda *_: Quality())
    nothing = GroundTruth('', {}, {}, [])  # the set is not drawn here
    monkeypatch.setattr(tool, '_truth', lambda _: nothing)
    return calls


@pytest.mark.parametrize('study', STUDIES)
def test_rows_change_what_they_name(tool: ModuleType, study: str, tmp_path: Path) -> None:
    args = tool.parse_args([study, '--set', 'toyvis', '--seeds', '3', '--out', str(tmp_path)])
    runs = [replace(run, folder=tmp_path) for run in tool.plan(args)]
    texts = [run.config().pretty_text for run in runs]
    assert len(set(texts)) == len(runs), 'two rows are the same'
    for run, text in zip(runs, texts):
        path = tmp_path / 'config.py'
        path.write_text(text)
        cfg = Config.fromfile(path)
        assert cfg.randomness.seed == 3
        model = MODELS.build(cfg.model)
        if run.row.pixels:
            continue
        alone = 'model.pseudo_masks' in run.row.options
        assert (model.teacher is None) == alone
        assert cfg.custom_hooks, 'nobody tells the model how far training is'


def test_rows_of_table4_differ_in_the_pairs(tool: ModuleType, tmp_path: Path) -> None:
    runs = tool.plan(args_of(tool, tmp_path))
    losses = [MODELS.build(run.config().model).criterion.loss_pair for run in runs]
    assert [(x.num_neighbors, x.use_patch_corr, x.use_center_shift) for x in losses] == [
        (2, False, False),
        (5, False, False),
        (5, True, False),
        (5, True, True),
        (7, True, True),
    ]


def test_schedule_is_stretched_for_all_rows_alike(tool: ModuleType, tmp_path: Path) -> None:
    for run in tool.plan(args_of(tool, tmp_path, '--max-iters', '90')):
        cfg = run.config()
        assert cfg.train_cfg.max_iters == 90
        assert cfg.param_scheduler[1].end == 90


@pytest.mark.parametrize(
    ('study', 'data'), [('pretrained', 'davis_folds'), ('table5', 'mix_folds')]
)
def test_folds_score_what_they_did_not_train_on(
    tool: ModuleType, study: str, data: str, tmp_path: Path
) -> None:
    command = [study, '--set', data, '--out', str(tmp_path)]
    held: list[list[str]] = []
    for run in tool.plan(tool.parse_args([*command, '--seeds', '0', '1', '2', '3'])):
        cfg = run.config()
        assert MODELS.build(cfg.model).student.track_head.cls_embed.out_features == 2
        davis = cfg.train_dataloader.dataset.get('datasets', [cfg.train_dataloader.dataset])[0]
        train, test = davis.videos, cfg.test_dataloader.dataset.videos
        assert len(train) == 6 and len(test) == 3 and not set(train) & set(test)
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            assert evaluator.videos == test and evaluator.class_agnostic
        assert cfg.val_dataloader.dataset.videos == test
        if study == 'table5':
            assert cfg.more_tests.seen.dataset.videos == train
            assert cfg.more_tests.seen.evaluator.videos == train
        held.append(sorted(test))
    rows = len(held) // 4
    assert len({name for videos in held[: 3 * rows] for name in videos}) == 9
    assert all(videos == held[0] for videos in [*held[:rows], *held[3 * rows :]])


def test_rows_that_a_set_cannot_run_are_told(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        tool.main(
            [
                'pretrained',
                '--set',
                'toyvis',
                '--seeds',
                '0',
                '--out',
                str(tmp_path),
                '--rows',
                'pretrained, boxes',
            ]
        )
        == 1
    )
    assert "toyvis has no config for the row 'pretrained, boxes'" in capsys.readouterr().err
    assert tool.main(['table5', '--set', 'toyvis', '--out', str(tmp_path)]) == 1
    assert 'table5 runs on --set mix_folds, not toyvis' in capsys.readouterr().err


def test_further_sets_are_scored(
    tool: ModuleType, faked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mix is scored on what it left out, on what it has seen and on drawn videos."""
    command = ['table5', '--set', 'mix_folds', '--out', str(tmp_path), '--seeds', '0']
    assert tool.main([*command, '--rows', '1 : 0 : 0']) == 0
    assert faked == ['train.py 1 : 0 : 0 0', *['test.py 1 : 0 : 0 0'] * 3]
    table = capsys.readouterr().out
    further = ('AP', 'mean IoU', 'of the fast')
    titles = [f'{name}: {title}' for name in ('seen', 'toyvis') for title in further]
    assert f'| {" | ".join(titles)} |' in table
    assert '| 25.0 | 25.0 | 25.0 | 50.0 | 50.0' + 2 * ' | 65.0 | 50.0 | 50.0' in table
    folder = tmp_path / 'table5_mix_folds/1-0-0/seed_0'
    tested = [Config.fromfile(folder / f'row/{name}.py') for name in ('config', 'seen', 'toyvis')]
    videos = [cfg.test_dataloader.dataset.get('videos') for cfg in tested]
    assert [cfg.test_evaluator.get('videos') for cfg in tested] == videos
    assert (len(videos[0]), len(videos[1]), videos[2]) == (3, 6, None)
    assert tested[2].test_dataloader.dataset.type == 'ToyVIS'


def test_more_videos_are_scored_of_runs_that_are_done(
    tool: ModuleType,
    faked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn: list[tuple[Path, Any]] = []
    monkeypatch.setattr(tool, 'generate_toyvis', lambda root, **how: drawn.append((root, how)))
    command = ['--set', 'toyvis-hard-fast', '--out', str(tmp_path), '--seeds', '0']
    assert tool.main(['table4', *command, '--rows', '2 spatial']) == 0
    assert tool.main(['table3', *command, '--rows', '+ pairs']) == 0
    faked.clear()
    # the second was not trained: it is the same run as the first
    assert tool.main(['table3', *command, '--rows', '+ pairs', '--more-videos', '50']) == 0
    assert faked == ['test.py + pairs 0']
    assert '| 50 videos: AP | 50 videos: mean IoU | 50 videos: of the fast |' in (
        capsys.readouterr().out
    )
    ((root, how),) = drawn
    assert root.parent == tmp_path and (how['num_train'], how['num_val']) == (0, 50)
    cfg = Config.fromfile(tmp_path / 'table3_toyvis-hard-fast/pairs/seed_0/row/more_videos.py')
    dataset = cfg.test_dataloader.dataset
    assert dataset.split == 'val' and dataset.generate.difficulty == 'hard'
    assert 'videos' not in dataset and 'videos' not in cfg.test_evaluator
    assert cfg.test_evaluator.ann_file == f'{dataset.data_root}/val/instances.json'
    faked.clear()
    assert tool.main(['table3', *command, '--rows', '+ pairs', '--more-videos', '50']) == 0
    assert faked == []
    assert (
        tool.main(
            [
                'table4',
                '--set',
                'davis_mini',
                '--out',
                str(tmp_path),
                '--seeds',
                '0',
                '--rows',
                '2 spatial',
                '--more-videos',
                '50',
            ]
        )
        == 1
    )
    assert 'davis_mini is no drawn set' in capsys.readouterr().err


@pytest.mark.slow
def test_fast_videos_are_the_fastest(tool: ModuleType, tmp_path: Path) -> None:
    (row,) = tool.study_rows('table4', ['+ centre shift'])
    cfg = tool.row_config('toyvis-hard-fast', row, 0)
    settings = dict(cfg.train_dataloader.dataset.generate, num_val=0)
    root = generate_toyvis(tmp_path / 'hard', **settings, num_workers=2)
    content = json.loads((root / 'train/instances.json').read_text())
    speeds: dict[int, list[float]] = {}
    for annotation in content['annotations']:
        speeds.setdefault(annotation['video_id'], []).append(tool._speed(annotation['bboxes']))
    means = {video['name']: np.nanmean(speeds[video['id']]) for video in content['videos']}
    fastest = sorted(means, key=means.__getitem__)[-40:]
    chosen = cfg.train_dataloader.dataset.videos
    assert sorted(fastest) == chosen == cfg.test_dataloader.dataset.videos
    assert cfg.test_dataloader.dataset.split == 'train' and cfg.test_evaluator.videos == chosen


def test_unknown_row_is_named(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no row \['3 spatial'\].*2 spatial"):
        tool.plan(args_of(tool, tmp_path, '--rows', '3 spatial'))


def test_one_seed_has_no_spread(
    tool: ModuleType, faked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['table4', '--set', 'toyvis', '--out', str(tmp_path), '--seeds', '0']
    assert tool.main([*command, '--rows', '2 spatial']) == 0
    assert '| 2 spatial | 1 | 900 | 20.0 |' in capsys.readouterr().out


def test_runs_once_and_reports(
    tool: ModuleType, faked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['table4', '--set', 'toyvis', '--out', str(tmp_path), '--seeds', '0', '1']
    assert tool.main([*command, '--rows', '2 spatial', '+ centre shift']) == 0
    assert len(faked) == 8
    printed = capsys.readouterr().out
    # mean of 0.20 and 0.21; the error of a mean of two is half their distance
    assert '| 2 spatial | 2 | 900 | 20.5 ± 0.5 |' in printed
    assert '| 50.0 ± 0.0 |  | 41.1 | 25.5 |' in printed
    # seed by seed the rows differ alike
    assert '| AP, to the row before |' in printed
    assert '| 50.0 ± 0.0 | +10.0 ± 0.0 | 42.6 | 26.5 |' in printed
    folder = tmp_path / 'table4_toyvis'
    assert {p.name for p in folder.iterdir() if p.is_file()} == {
        'table.md',
        'bars.png',
        'curves.png',
    }
    record = json.loads((folder / 'centre-shift' / 'seed_1' / 'run.json').read_text())
    assert record['seed'] == 1
    assert record['curves']['loss_pair'] == [[3, 6, 9], pytest.approx([0.3, 0.6, 0.9])]
    faked.clear()
    assert tool.main([*command, '--rows', '2 spatial']) == 0
    assert faked == []
    assert '+ centre shift' in capsys.readouterr().out, 'the report forgets what it did not run'


def test_options_are_compared_with_the_first_row(
    tool: ModuleType, faked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['beyond', '--set', 'toyvis', '--out', str(tmp_path), '--seeds', '0', '1']
    assert tool.main([*command, '--rows', 'BoxVIS', 'matched patches', 'jittered student']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any('| AP, to BoxVIS |' in line for line in lines)
    changes = [line for line in lines if line.endswith('| +0.0 ± 0.0 |')]
    assert [line.split('|')[1].strip() for line in changes] == [
        'matched patches',
        'jittered student',
    ]


def test_run_too_short_for_the_log_has_scores_but_no_curves(
    tool: ModuleType, faked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    call = tool._tool

    def without_log(run: Any, *more: Any) -> None:
        call(run, *more)
        shutil.rmtree(run.folder / 'stamp', ignore_errors=True)

    monkeypatch.setattr(tool, '_tool', without_log)
    command = ['table4', '--set', 'toyvis', '--out', str(tmp_path), '--seeds', '0']
    assert tool.main([*command, '--rows', '2 spatial']) == 0
    names = {path.name for path in (tmp_path / 'table4_toyvis').iterdir() if path.is_file()}
    assert names == {'table.md', 'bars.png'}


def test_broken_off_run_goes_on(tool: ModuleType, faked: list[str], tmp_path: Path) -> None:
    (run,) = tool.plan(args_of(tool, tmp_path, '--rows', '2 spatial'))
    tool.execute(run, 1)
    run.result.unlink()
    faked.clear()
    tool.execute(run, 1)
    assert faked == ['train.py 2 spatial 0 resumed', 'test.py 2 spatial 0']
    assert json.loads(run.result.read_text())['train_seconds'] is None


def test_other_settings_do_not_pass_for_these(
    tool: ModuleType, faked: list[str], tmp_path: Path
) -> None:
    (run,) = tool.plan(args_of(tool, tmp_path, '--rows', '2 spatial'))
    tool.execute(run, 1)
    (other,) = tool.plan(args_of(tool, tmp_path, '--rows', '2 spatial', '--max-iters', '9'))
    with pytest.raises(UsageError, match='other settings'):
        tool.execute(other, 1)


def test_nothing_done_is_said(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(['table3', '--set', 'toyvis', '--out', str(tmp_path), '--report-only']) == 1
    assert 'no run is done yet' in capsys.readouterr().err


def test_failing_tool_names_run_and_log(tool: ModuleType, tmp_path: Path) -> None:
    (run,) = tool.plan(args_of(tool, tmp_path, '--rows', '2 spatial'))
    run.folder.mkdir(parents=True)
    with pytest.raises(UsageError, match=r'2 spatial, seed 0: train\.py failed.*output\.log'):
        tool._tool(run, 1, 'train.py', os.path.join('no', 'config.py'))


def test_failed_run_is_told_and_keeps_no_other_from_running(
    tool: ModuleType,
    faked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = tool._tool

    def break_one(run: Any, *more: Any) -> None:
        if run.row.name == '2 spatial':
            raise UsageError('2 spatial, seed 0: train.py failed')
        call(run, *more)

    monkeypatch.setattr(tool, '_tool', break_one)
    command = ['table4', '--set', 'toyvis', '--out', str(tmp_path), '--seeds', '0', '--jobs', '1']
    assert tool.main([*command, '--rows', '2 spatial', '+ centre shift']) == 1
    said = capsys.readouterr()
    assert '+ centre shift, seed 0: AP 0.300' in said.out
    assert 'seed 0: train.py failed' in said.err
    assert '1 of 2 runs failed' in said.err


def test_rows_that_are_one_run_share_it(
    tool: ModuleType, faked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The spatial pairs of table 4 are the second row of table 3; another seed is not."""
    settings = ['--set', 'toyvis', '--out', str(tmp_path), '--max-iters', '9']
    assert tool.main(['table4', *settings, '--rows', '2 spatial', '--seeds', '0']) == 0
    faked.clear()
    assert tool.main(['table3', *settings, '--rows', '+ pairs', '--seeds', '0', '1']) == 0
    assert faked == ['train.py + pairs 1', 'test.py + pairs 1']
    assert 'the run of table4, 2 spatial' in capsys.readouterr().out
    shared = json.loads((tmp_path / 'table3_toyvis/pairs/seed_0/run.json').read_text())
    assert (shared['study'], shared['row']) == ('table3', '+ pairs')
    assert shared['run_as'] == 'table4, 2 spatial'
    assert shared['metrics']['AP'] == 0.2


def test_started_rows_share_one_start(
    tool: ModuleType, faked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights are trained before the first run, once for all studies, and are loaded by all."""
    command = ['--set', 'toyvis-hard-started', '--out', str(tmp_path), '--seeds', '0', '1']
    assert tool.main(['table4', *command, '--rows', '2 spatial']) == 0
    trained = ['train.py mask2former_tiny_toyvis-stills']
    assert faked[:1] == trained and len(faked) == 5
    faked.clear()
    assert tool.main(['supervision', *command, '--rows', 'BoxVIS', 'M2F-VIS, masks']) == 0
    assert len(faked) == 8 and not set(trained) & set(faked)
    weights = tmp_path / 'start/mask2former_tiny_toyvis-stills/iter_900.pth'
    rows = tmp_path.glob('*_toyvis-hard-started/*/seed_*/row/config.py')
    configs = [Config.fromfile(path) for path in rows]
    assert len(configs) == 6
    assert {cfg.load_from for cfg in configs} == {str(weights)}
    (weights.parent / 'row/config.py').write_text('max_iters = 9')
    assert tool.main(['supervision', *command, '--rows', 'BoxVIS']) == 1
    assert 'stills holds a run with other settings' in capsys.readouterr().err


def test_started_rows_begin_like_the_papers(tool: ModuleType, tmp_path: Path) -> None:
    """Weights of the twin of stills fit both kinds of rows, and a teacher starts from them too."""
    stills = Config.fromfile(tool.ROOT / tool.SETS['toyvis-hard-started'].start)
    assert stills.train_dataloader.dataset.clip.num_frames == 1
    assert stills.train_dataloader.dataset.generate.seed == 1
    weights = MODELS.build(stills.model).state_dict()
    command = ['supervision', '--set', 'toyvis-hard-started', '--out', str(tmp_path)]
    for run in tool.plan(tool.parse_args([*command, '--seeds', '0'])):
        model = MODELS.build(run.config().model)
        model.load_state_dict(weights)
        if run.row.pixels:
            continue
        assert model.pair_warmup == 0 and model.confidence.mode == 'rising'
        for old, new in zip(model.teacher.parameters(), model.student.parameters(), strict=True):
            assert old.equal(new)


def test_fast_objects(tool: ModuleType) -> None:
    """By their own size: a small one is fast where a large one is slow; gaps are not ways."""
    tracks = {
        'slow': [[0, 0, 40, 40], [10, 0, 40, 40], [20, 0, 40, 40]],
        'fast': [[0, 0, 4, 4], [6, 8, 4, 4], None],
        'gap': [[0, 0, 4, 4], None, [90, 90, 4, 4]],
        'still': [[5, 5, 9, 9]] * 3,
        'once': [None, None, [1, 1, 4, 4]],
    }
    truth = GroundTruth('', {}, {}, [dict(id=k, bboxes=v) for k, v in tracks.items()])
    assert tool._speed(tracks['slow']) == pytest.approx(0.25)
    assert tool._speed(tracks['fast']) == pytest.approx(2.5)

    def names(share: float) -> list[str]:
        return [entry['id'] for entry in tool.fast_objects(truth, share).annotations]

    assert names(1 / 3) == ['fast']
    assert names(2 / 3) == ['slow', 'fast']
    assert names(1) == ['slow', 'fast', 'still']
    assert tool.fast_objects(GroundTruth('', {}, {}, [])).annotations == []


def test_metric_that_an_older_run_lacks_has_no_column(
    tool: ModuleType, faked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['table4', '--set', 'toyvis', '--out', str(tmp_path), '--rows', '2 spatial']
    assert tool.main([*command, '--seeds', '0']) == 0
    assert 'of the fast' in capsys.readouterr().out
    path = tmp_path / 'table4_toyvis/2-spatial/seed_0/run.json'
    record = json.loads(path.read_text())
    del record['metrics']['fast_best_iou']
    path.write_text(json.dumps(record))
    assert tool.main([*command, '--seeds', '0']) == 0
    shown = capsys.readouterr().out
    assert 'of the fast' not in shown and 'mean IoU' in shown
