"""Set-up, packaging, and the command lines of the tools."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from packaging.requirements import Requirement

import mmboxvis
from mmboxvis import _cli, _stack
from mmboxvis._cli import UsageError, require_fit, schedule_options
from mmboxvis.engine import AutocastOptimWrapper
from tests.models.tiny import make_boxvis

ROOT = Path(__file__).resolve().parents[1]


def load_script(path: str) -> ModuleType:
    name = 'script_' + re.sub(r'\W', '_', path)
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def train() -> ModuleType:
    return load_script('tools/train.py')


@pytest.fixture(scope='module')
def test_tool() -> ModuleType:
    return load_script('tools/test.py')


@pytest.fixture(scope='module')
def setup_env() -> ModuleType:
    return load_script('tools/misc/setup_env.py')


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / 'tiny.py'
    path.write_text(
        "model = dict(type='Toy')\n"
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))\n"
        'auto_scale_lr = dict(enable=False, base_batch_size=4)\n'
        "test_evaluator = dict(type='VISMetric', ann_file='a.json')\n"
        "load_from = 'start.pth'\n"
    )
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / 'some.pth'
    path.touch()
    return path


@pytest.fixture(autouse=True)
def local_rank() -> Iterator[None]:
    """The tools set LOCAL_RANK for mmengine; no other test shall see it."""
    before = os.environ.pop('LOCAL_RANK', None)
    yield
    os.environ.pop('LOCAL_RANK', None)
    if before is not None:
        os.environ['LOCAL_RANK'] = before


# ------------------------------------------------------------------ importing the package

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Blocker())
import mmboxvis
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ('blocked', 'named'),
    [
        (['torch', 'mmengine', 'mmcv', 'mmdet'], 'torch, mmengine, mmcv and mmdet'),
        (['mmcv'], 'mmboxvis needs mmcv,'),
    ],
)
def test_import_without_stack_is_one_error(blocked: list[str], named: str) -> None:
    result = run_python(BLOCKER.format(names=blocked))
    assert result.returncode == 1
    assert result.stderr.count('Traceback') == 1, result.stderr
    assert '\nImportError: mmboxvis needs ' in result.stderr and named in result.stderr
    assert 'make setup' in result.stderr and 'mmboxvis[onedl]' in result.stderr


def test_import_is_light_and_quiet() -> None:
    code = 'import sys, mmboxvis; print({"torch", "mmcv", "mmdet"} & set(sys.modules))'
    result = run_python(code)
    assert (result.stdout.strip(), result.stderr, result.returncode) == ('set()', '', 0)


def test_missing_operators_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = SimpleNamespace(find_spec=lambda name, path: None)
    monkeypatch.setattr(_stack, 'PathFinder', finder)
    with pytest.raises(ImportError, match=r'no mmcv\._ext') as error:
        _stack.check_stack()
    assert '--no-build-isolation' in str(error.value)


def set_versions(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(_stack.metadata, 'version', version)


ONEDL = {
    'torch': '2.13.0+cpu',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
}
OLDEST = {**ONEDL, 'torch': '2.7.0'}


@pytest.mark.parametrize('versions', [ONEDL, OLDEST])
def test_tested_versions_give_no_warning(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]
) -> None:
    set_versions(monkeypatch, versions)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        _stack.check_stack()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'onedl-mmcv': '2.9.0'}, r'onedl-mmcv 2\.9\.0 is outside'),
        ({'onedl-mmdetection': '3.2.0'}, r'onedl-mmdetection 3\.2\.0 is outside'),
        ({'torch': 'from-somewhere'}, 'torch from-somewhere is outside'),
        # has no torch.compiler.is_exporting
        ({'torch': '2.6.0'}, r'torch 2\.6\.0 is outside .*2\.7 <= version.* may lack'),
        ({'mmcv': '2.3.6'}, 'onedl-mmcv and mmcv are installed over each other'),
    ],
)
def test_odd_versions_only_warn(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], message: str
) -> None:
    set_versions(monkeypatch, {**ONEDL, **change})
    with pytest.warns(UserWarning, match=message) as caught:
        _stack.check_stack()
    assert len(caught) == 1


# ------------------------------------------------------------------ what is packed


def test_every_package_folder_is_a_package() -> None:
    folders = {
        path.parent for path in (ROOT / 'mmboxvis').rglob('*.py') if '.mim' not in path.parts
    }
    assert [folder for folder in folders if not (folder / '__init__.py').is_file()] == []


def test_model_index_names_files_that_exist() -> None:
    names = re.findall(r'^\s+- (.+)$', (ROOT / 'model-index.yml').read_text(), re.MULTILINE)
    assert names
    assert [name for name in names if not (ROOT / name).is_file()] == []


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what goes into a package: building writes into the source folder."""
    target = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    for name in ('mmboxvis', 'configs', 'tools', 'requirements'):
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml', 'LICENSE'):
        shutil.copy(ROOT / name, target / name)
    for name in ('README.md', 'requirements.txt'):
        shutil.copy(ROOT / name, target / name)
    (target / 'tests').mkdir()
    shutil.copy(ROOT / 'tests' / 'test_packaging.py', target / 'tests')
    return target


def build(source: Path, kind: str, out: Path) -> Path:
    code = f'from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))'
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=source, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return out / result.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_wheel_from_source_distribution_is_complete(source: Path, tmp_path: Path) -> None:
    archive = build(source, 'sdist', tmp_path)
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / 'unpacked', filter='data')
    unpacked = next((tmp_path / 'unpacked').iterdir())
    assert not (unpacked / 'tests').exists()  # they need a checkout
    with zipfile.ZipFile(build(unpacked, 'wheel', tmp_path)) as wheel:
        names = set(wheel.namelist())
        info = next(name for name in names if name.endswith('.dist-info/METADATA'))
        description = wheel.read(info).decode()
    for folder in ('configs', 'tools', 'mmboxvis'):
        for path in (ROOT / folder).rglob('*.py'):
            relative = path.relative_to(ROOT)
            if '.mim' not in relative.parts:
                packed_as = relative if folder == 'mmboxvis' else Path('mmboxvis/.mim', relative)
                assert packed_as.as_posix() in names
    for path in (ROOT / 'mmboxvis/visualization/templates').iterdir():
        assert f'mmboxvis/visualization/templates/{path.name}' in names
    assert 'mmboxvis/py.typed' in names
    assert 'mmboxvis/.mim/model-index.yml' in names
    assert 'mmboxvis/.mim/tools/dist_train.sh' in names
    assert not [name for name in names if name.startswith(('tests', 'tools', 'configs'))]
    assert f'\nVersion: {mmboxvis.__version__}\n' in description
    assert '\nAuthor: mmboxvis contributors\n' in description
    required = re.findall(r'^Requires-Dist: (.+)$', description, re.MULTILINE)
    assert 'onedl-mmcv==2.3.6; extra == "onedl"' in required
    always = [line for line in required if 'extra ==' not in line]
    assert not [line for line in always if re.match(r'torch|mm|onedl', line)]


def test_editable_install_links_configs_and_tools(source: Path, tmp_path: Path) -> None:
    build(source, 'editable', tmp_path)
    for name in ('configs', 'tools', 'model-index.yml'):
        link = source / 'mmboxvis' / '.mim' / name
        assert link.is_symlink() and link.resolve() == (source / name).resolve()


# ------------------------------------------------------------------ the set-up


def test_every_requirement_is_pinned(setup_env: ModuleType) -> None:
    assert setup_env.required_names(dev=True) <= setup_env.read_pins().keys()


def test_versions_that_lack_what_is_called_are_refused() -> None:
    lines = (ROOT / 'requirements/runtime.txt').read_text().splitlines()
    bounds = {r.name: r.specifier for r in map(Requirement, (x for x in lines if x[:1] != '#'))}
    assert '14.0.1' not in bounds['av']  # the last without VideoFrame.rotation


def test_required_names_of_tests_only_with_dev(setup_env: ModuleType) -> None:
    assert 'pytest' not in setup_env.required_names(dev=False)
    assert 'pytest' in setup_env.required_names(dev=True)


def test_set_up_without_stamp_is_not_current(setup_env: ModuleType, tmp_path: Path) -> None:
    env = setup_env.Environment(tmp_path / 'venv')
    assert not setup_env.is_current(env, dev=False)


def fake_environment(setup_env: ModuleType, path: Path) -> SimpleNamespace:
    """Something that looks like an environment in which everything was installed."""
    env = SimpleNamespace(path=path, python=path / 'python', site_packages=path / 'site')
    (path / 'site' / 'mmcv').mkdir(parents=True)
    env.python.touch()
    (env.site_packages / 'mmcv' / '_ext.so').touch()
    pins = setup_env.read_pins()
    versions = {name: pins[name] for name in setup_env.required_names(dev=False)}
    for name, version in {**versions, 'mmboxvis': '0.1.0'}.items():
        info = env.site_packages / f'{name.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    return env


@pytest.mark.parametrize('removed', ['', 'site/mmcv/_ext.so', 'python', 'site/mmboxvis-0.1.0*'])
def test_set_up_is_current_until_something_is_gone(
    setup_env: ModuleType, tmp_path: Path, removed: str
) -> None:
    env = fake_environment(setup_env, tmp_path)
    setup_env.write_stamp(env, dev=False)
    for path in tmp_path.glob(removed) if removed else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert setup_env.is_current(env, dev=False) is not bool(removed)
    assert not setup_env.is_current(env, dev=True)


def test_set_up_is_not_current_after_requirements_change(
    setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = fake_environment(setup_env, tmp_path)
    setup_env.write_stamp(env, dev=False)
    monkeypatch.setattr(setup_env, 'fingerprint', lambda: 'another')
    assert not setup_env.is_current(env, dev=False)


def test_has_operators_looks_into_the_wheel(setup_env: ModuleType, tmp_path: Path) -> None:
    for name, member in (('light', 'mmcv/__init__.py'), ('full', 'mmcv/_ext.cpython-311.so')):
        with zipfile.ZipFile(tmp_path / f'{name}.whl', 'w') as wheel:
            wheel.writestr(member, '')
    (tmp_path / 'broken.whl').write_bytes(b'no zip')
    found = [setup_env.has_operators(tmp_path / f'{n}.whl') for n in ('light', 'full', 'broken')]
    assert found == [False, True, False]


@pytest.mark.parametrize(
    ('found', 'fit'),
    [
        (dict(mmcv='2.3.6', ops='cpu', gpu=False, nvcc=False), True),
        (dict(mmcv='2.3.6', ops='cpu', gpu=True, nvcc=False), True),
        (dict(mmcv='2.3.6', ops='cpu', gpu=True, nvcc=True), False),
        (dict(mmcv='2.3.6', ops='cuda', gpu=True, nvcc=True), True),
        (dict(mmcv='2.3.6', ops='', gpu=False, nvcc=False), False),
        (dict(mmcv='2.1.0', ops='cpu', gpu=False, nvcc=False), False),
    ],
)
def test_operators_fit(setup_env: ModuleType, found: dict[str, object], fit: bool) -> None:
    assert setup_env.operators_fit(found, '2.3.6') is fit


def test_missing_compiler_is_named(
    setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(setup_env.SetupError, match=r'a C\+\+ compiler .*apt-get install g\+\+'):
        setup_env.require_compiler()


def test_build_progress_is_shown_and_logged(
    setup_env: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "print('noise'); print('[1/2] c++ a'); print('  [2/2] c++ b'); raise SystemExit(3)"
    log = tmp_path / 'log'
    assert setup_env.run_with_progress([sys.executable, '-c', code], dict(os.environ), log) == 3
    assert '2 of 2 files' in capsys.readouterr().out
    assert log.read_text().splitlines() == ['noise', '[1/2] c++ a', '  [2/2] c++ b']


def run_setup_script(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ['/bin/sh', 'tools/misc/setup_env.sh', '--help'],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_missing_python_is_named(tmp_path: Path) -> None:
    result = run_setup_script(PATH=str(tmp_path), PYTHON='/nowhere/python')
    assert result.returncode == 1 and 'PYTHON=/nowhere/python is not a Python' in result.stderr


def test_given_python_is_used() -> None:
    result = run_setup_script(PATH=os.environ['PATH'], PYTHON=sys.executable)
    assert result.returncode == 0 and '--dev' in result.stdout


def test_folder_of_other_things_is_not_cleared(setup_env: ModuleType, tmp_path: Path) -> None:
    (tmp_path / 'letter.txt').touch()
    with pytest.raises(setup_env.SetupError, match='is no virtual environment'):
        setup_env.Environment(tmp_path).make()
    assert os.listdir(tmp_path) == ['letter.txt']


@pytest.mark.parametrize('before', ['', '/some/wheels'])
@pytest.mark.parametrize('shared', [False, True])
def test_ci_adds_shared_wheels(tmp_path: Path, before: str, shared: bool) -> None:
    (tmp_path / 'main' / '.ci').mkdir(parents=True)
    script = shutil.copy(ROOT / '.ci' / 'run', tmp_path / 'main' / '.ci' / 'run')
    wheels = tmp_path / 'shared' / 'wheels'
    if shared:
        wheels.mkdir(parents=True)
    make = tmp_path / 'make'
    make.write_text('#!/bin/sh\necho "$PIP_FIND_LINKS|$1|$(pwd)"\n')
    make.chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    links, target, folder = run_script(script, PIP_FIND_LINKS=before, PATH=path)[0].split('|')
    assert links.split() == [*before.split(), *([str(wheels)] if shared else [])]
    assert (target, folder) == ('test', str(tmp_path / 'main'))


def test_make_test_ends_with_pytest() -> None:
    # these tests may themselves run under make, whose settings a make inside would take over
    environment = {k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MAKELEVEL')}
    result = subprocess.run(
        ['make', '-n', 'test'],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    commands = result.stdout.strip().splitlines()
    assert 'setup_env.sh' in commands[0] and commands[0].endswith('--dev')
    assert 'pytest' in commands[-1]
    text = ' '.join(commands)
    assert text.index('ruff check') < text.index('ruff format --check') < text.index('mypy')


# ------------------------------------------------------------------ train.py


def merged(tool: ModuleType, *argv: str | Path) -> Config:
    return tool.merge_args(tool.parse_args([str(arg) for arg in argv]))


def test_train_defaults(train: ModuleType, config: Path) -> None:
    cfg = merged(train, config)
    assert (cfg.work_dir, cfg.launcher, cfg.default_scope) == (
        'work_dirs/tiny',
        'none',
        'mmboxvis',
    )
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert cfg.auto_scale_lr.enable is False
    assert cfg.load_from == 'start.pth' and 'resume' not in cfg


def test_work_dir_comes_from_command_line_then_config(train: ModuleType, config: Path) -> None:
    config.write_text(config.read_text() + "work_dir = 'from/config'\n")
    assert merged(train, config).work_dir == 'from/config'
    assert merged(train, config, '--work-dir', 'given').work_dir == 'given'


def test_cfg_options_reach_lists_and_values(train: ModuleType, config: Path) -> None:
    config.write_text(config.read_text() + 'hooks = [dict(a=1), dict(a=2)]\n')
    cfg = merged(train, config, '--cfg-options', 'hooks.1.a=5', 'optim_wrapper.optimizer.lr=0.5')
    assert [hook.a for hook in cfg.hooks] == [1, 5]
    assert cfg.optim_wrapper.optimizer.lr == 0.5


def test_cfg_options_that_come_too_late_are_told(train: ModuleType, config: Path) -> None:
    config.write_text(config.read_text() + "root = 'a'\nwork_dir = f'{root}/b'\n")
    with pytest.warns(UserWarning, match="root=c: .* has used 'root' already") as told:
        cfg = merged(train, config, '--cfg-options', 'root=c', 'work_dir=d', 'custom_imports={}')
    assert len(told) == 1 and (cfg.root, cfg.work_dir) == ('c', 'd')


def test_resume_latest_or_a_path(train: ModuleType, config: Path, checkpoint: Path) -> None:
    latest = merged(train, config, '--resume')
    assert latest.resume is True and latest.load_from is None
    given = merged(train, config, '--resume', checkpoint)
    assert given.resume is True and given.load_from == str(checkpoint)
    url = merged(train, config, '--resume', 'https://host/some.pth')
    assert url.load_from == 'https://host/some.pth'


def test_auto_scale_lr(train: ModuleType, config: Path) -> None:
    assert merged(train, config, '--auto-scale-lr').auto_scale_lr.enable is True
    config.write_text("model = dict(type='Toy')\n")
    with pytest.raises(UsageError, match='base_batch_size'):
        merged(train, config, '--auto-scale-lr')


@pytest.mark.parametrize('spelling', ['--local-rank', '--local_rank'])
def test_local_rank_reaches_the_environment(train: ModuleType, config: Path, spelling: str) -> None:
    merged(train, config, f'{spelling}=3')
    assert os.environ['LOCAL_RANK'] == '3'


def test_launchers_are_those_of_mmengine(train: ModuleType, config: Path) -> None:
    for launcher in ('none', 'pytorch', 'slurm', 'mpi'):
        assert merged(train, config, '--launcher', launcher).launcher == launcher
    with pytest.raises(SystemExit):
        train.parse_args([str(config), '--launcher', 'other'])


@pytest.mark.parametrize(
    ('device', 'wrapper', 'keys'),
    [
        ('cuda', 'FiniteAmpOptimWrapper', {'type', 'optimizer', 'loss_scale'}),
        ('cpu', 'AutocastOptimWrapper', {'type', 'optimizer'}),
    ],
)
def test_amp_follows_the_device(
    train: ModuleType,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    wrapper: str,
    keys: set[str],
) -> None:
    monkeypatch.setattr(_cli, 'get_device', lambda: device)
    cfg = merged(train, config, '--amp')
    assert cfg.optim_wrapper.type == wrapper
    assert set(cfg.optim_wrapper) == keys


@pytest.mark.parametrize('kind', ['fsdp', 'zero2'])
def test_amp_is_refused_where_a_strategy_makes_the_steps(kind: str) -> None:
    cfg = Config.fromfile(ROOT / f'configs/boxvis/boxvis_r50_8xb2-15k_bvisd_{kind}.py')
    before = dict(cfg.optim_wrapper)
    with pytest.raises(UsageError, match='set the precision there'):
        _cli.enable_amp(cfg)
    assert dict(cfg.optim_wrapper) == before


def test_amp_takes_wrappers_by_any_of_their_names() -> None:
    for name in ('FiniteOptimWrapper', 'mmboxvis.FiniteOptimWrapper', 'mmengine.OptimWrapper'):
        cfg = Config(dict(optim_wrapper=dict(type=name)))
        _cli.enable_amp(cfg)
        assert cfg.optim_wrapper.type != name


def test_nothing_to_resume_keeps_the_weights_for_other_runners(
    train: ModuleType, tmp_path: Path
) -> None:
    """They know nothing of ``start_from``."""
    config = 'configs/boxvis/boxvis_r50_8xb2-15k_bvisd_fsdp.py'
    arguments = (config, '--work-dir', tmp_path, '--resume')
    cfg = merged(train, *arguments)
    assert not cfg.resume and cfg.load_from == 'checkpoints/mask2former_r50_coco-instance.pth'
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    cfg = merged(train, *arguments)
    assert cfg.resume and cfg.load_from is None


def test_amp_on_an_unknown_device(
    train: ModuleType, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cli, 'get_device', lambda: 'mps')
    with pytest.raises(UsageError, match='--amp does not work on mps'):
        merged(train, config, '--amp')


@pytest.mark.skipif(torch.cuda.is_available(), reason='the CPU form of mixed precision')
def test_autocast_wrapper_computes_in_bfloat16_and_trains() -> None:
    layer = torch.nn.Linear(4, 2)
    before = layer.weight.detach().clone()
    wrapper = AutocastOptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1))
    with wrapper.optim_context(layer):
        out = layer(torch.randn(3, 4))
    assert out.dtype == torch.bfloat16 and layer.weight.dtype == torch.float32
    wrapper.update_params(out.float().square().mean())
    assert not torch.equal(layer.weight, before)


def test_errors_are_one_line(
    train: ModuleType, test_tool: ModuleType, config: Path, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / 'nowhere')
    cases: list[tuple[ModuleType, list[str], str]] = [
        (train, [nowhere], f'train.py: error: there is no config {nowhere}'),
        (
            train,
            [str(config), '--resume', nowhere],
            f'train.py: error: there is no checkpoint {nowhere}',
        ),
        (test_tool, [nowhere, nowhere], f'test.py: error: there is no config {nowhere}'),
        (test_tool, [str(config), nowhere], f'test.py: error: there is no checkpoint {nowhere}'),
    ]
    for tool, argv, message in cases:
        with pytest.raises(SystemExit) as error:
            tool.main(argv)
        assert error.value.code == message


def test_config_without_model(train: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / 'base.py'
    path.write_text('x = 1\n')
    with pytest.raises(UsageError, match='defines no model'):
        merged(train, path)


# ------------------------------------------------------------------ several processes


def test_cpu_processes_meet_over_gloo(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cli, 'get_device', lambda: 'cpu')
    joined: list[dict[str, object]] = []
    monkeypatch.setattr(
        torch.distributed, 'init_process_group', lambda **kwargs: joined.append(kwargs)
    )
    cfg = Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='nccl'))))
    _cli.join_cpu_processes(cfg)
    assert joined == [dict(backend='gloo', timeout=None)]
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is False


@pytest.mark.parametrize(('launcher', 'device'), [('none', 'cpu'), ('pytorch', 'cuda')])
def test_else_the_launcher_is_left_to_mmengine(
    monkeypatch: pytest.MonkeyPatch, launcher: str, device: str
) -> None:
    monkeypatch.setattr(_cli, 'get_device', lambda: device)
    cfg = Config(dict(launcher=launcher))
    _cli.join_cpu_processes(cfg)
    assert 'model_wrapper_cfg' not in cfg


def test_slurm_without_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cli, 'get_device', lambda: 'cpu')
    with pytest.raises(UsageError, match=r'dist_train\.sh'):
        _cli.join_cpu_processes(Config(dict(launcher='slurm')))


TOY_MODULE = """
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS


@MODELS.register_module()
class ToyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.layer(torch.stack(inputs)).float().square().mean())


@DATASETS.register_module()
class ToyData(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(4, generator=generator))
"""

TOY_CONFIG = """
custom_imports = dict(imports=['toy_parts'])
model = dict(type='ToyModel')
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ToyData'),
    sampler=dict(type='InfiniteSampler'),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
env_cfg = dict(dist_cfg=dict(backend='nccl'))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes on the CPU')
def test_dist_train_on_cpu_then_resume(tmp_path: Path) -> None:
    (tmp_path / 'toy_parts.py').write_text(TOY_MODULE)
    (tmp_path / 'toy.py').write_text(TOY_CONFIG)
    variables = {
        **os.environ,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(tmp_path),
        'PORT': str(20000 + os.getpid() % 20000),
        'OMP_NUM_THREADS': '1',
    }

    def run(processes: int, *arguments: str) -> str:
        command = ['bash', 'tools/dist_train.sh', str(tmp_path / 'toy.py'), str(processes)]
        result = subprocess.run(
            [*command, '--work-dir', str(tmp_path / 'run'), *arguments],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=290,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    run(2, '--amp')
    first = torch.load(tmp_path / 'run' / 'iter_4.pth', weights_only=False)
    assert first['meta']['iter'] == 4
    output = run(1, '--resume', '--cfg-options', 'train_cfg.max_iters=6')
    assert 'iter_4.pth' in output
    second = torch.load(tmp_path / 'run' / 'iter_6.pth', weights_only=False)
    weights = [saved['state_dict']['layer.weight'] for saved in (first, second)]
    assert not torch.equal(*weights)


# ------------------------------------------------------------------ test.py


def test_test_defaults(test_tool: ModuleType, config: Path, checkpoint: Path) -> None:
    cfg = merged(test_tool, config, checkpoint)
    assert cfg.load_from == str(checkpoint) and cfg.resume is False
    assert dict(cfg.test_evaluator) == dict(type='VISMetric', ann_file='a.json')
    assert 'custom_hooks' not in cfg


def test_out_sets_the_prefix(test_tool: ModuleType, config: Path, checkpoint: Path) -> None:
    cfg = merged(test_tool, config, checkpoint, '--out', 'some/where.json')
    assert cfg.test_evaluator.outfile_prefix == 'some/where'
    assert cfg.test_evaluator.format_only is False
    with pytest.raises(UsageError, match=r'has to end in \.json'):
        merged(test_tool, config, checkpoint, '--out', 'results.pkl')


def test_format_only_writes_somewhere(
    test_tool: ModuleType, config: Path, checkpoint: Path
) -> None:
    cfg = merged(test_tool, config, checkpoint, '--format-only', '--work-dir', 'here')
    assert cfg.test_evaluator.format_only is True
    assert cfg.test_evaluator.outfile_prefix == 'here/results'


def test_several_metrics_write_several_files(
    test_tool: ModuleType, config: Path, checkpoint: Path
) -> None:
    one = "dict(type='VISMetric', ann_file='a.json')"
    own = "dict(type='VISMetric', ann_file='b.json', outfile_prefix='own')"
    config.write_text(config.read_text() + f'test_evaluator = [{one}, {one}, {own}]\n')
    for arguments, wanted in (
        (['--work-dir', 'here'], ['here/results', 'here/results_1', 'own']),
        (['--out', 'some/where.json'], ['some/where', 'some/where_1', 'some/where_2']),
    ):
        cfg = merged(test_tool, config, checkpoint, '--format-only', *arguments)
        assert [metric.outfile_prefix for metric in cfg.test_evaluator] == wanted


def test_metrics_need_scores(test_tool: ModuleType, config: Path, checkpoint: Path) -> None:
    merged(test_tool, config, checkpoint, '--metrics-out', 'm.json')
    with pytest.raises(UsageError, match='--metrics-out needs scores'):
        merged(test_tool, config, checkpoint, '--metrics-out', 'm.json', '--format-only')


def test_an_official_set_is_not_scored_where_its_results_are_written(
    test_tool: ModuleType, checkpoint: Path
) -> None:
    """Its annotations are not public: scoring would end the test in an error."""
    official = ROOT / 'configs/testing/boxvis_r50_query-t3_ytvis21-360p_official.py'
    cfg = merged(test_tool, official, checkpoint, '--out', 'some/where.json')
    assert cfg.test_evaluator.format_only is True
    assert cfg.test_evaluator.outfile_prefix == 'some/where'
    with pytest.raises(UsageError, match='--report needs scores'):
        merged(test_tool, official, checkpoint, '--report', 'a.html')


def test_report_needs_results_and_scores(
    test_tool: ModuleType, config: Path, checkpoint: Path
) -> None:
    cfg = merged(test_tool, config, checkpoint, '--report', 'a.html', '--work-dir', 'here')
    assert cfg.test_evaluator.outfile_prefix == 'here/results'
    assert cfg.test_evaluator.format_only is False
    with pytest.raises(UsageError, match='--report needs scores'):
        merged(test_tool, config, checkpoint, '--report', 'a.html', '--format-only')


def test_results_of_several_metrics_have_several_names(test_tool: ModuleType) -> None:
    cfg = Config(dict(work_dir='w', test_evaluator=[dict(type='VISMetric')] * 2))
    test_tool.write_results(cfg, 'a.json', False)
    assert [metric.outfile_prefix for metric in cfg.test_evaluator] == ['a', 'a_1']


@pytest.mark.parametrize(
    ('evaluator', 'count'),
    [
        (None, 0),
        (dict(type='CocoMetric'), 0),
        (dict(type='mmboxvis.VISMetric'), 1),
        ([dict(type='VISMetric'), dict(type='CocoMetric')], 1),
        (dict(type='Evaluator', metrics=[dict(type='VISMetric')]), 1),
    ],
)
def test_vis_metrics_are_found(test_tool: ModuleType, evaluator: object, count: int) -> None:
    assert len(list(test_tool.vis_metrics(evaluator))) == count


def test_out_needs_the_metric(test_tool: ModuleType) -> None:
    with pytest.raises(UsageError, match='VISMetric'):
        test_tool.write_results(Config(dict(work_dir='w')), 'a.json', False)


def test_show_dir_adds_or_redirects_the_hook(
    test_tool: ModuleType, config: Path, checkpoint: Path
) -> None:
    cfg = merged(test_tool, config, checkpoint, '--show-dir', 'shown')
    assert cfg.custom_hooks == [dict(type='VideoOverlayHook', out_dir='shown')]
    hooks = "custom_hooks = [dict(type='A'), dict(type='VideoOverlayHook', fps=4)]\n"
    config.write_text(config.read_text() + hooks)
    cfg = merged(test_tool, config, checkpoint, '--show-dir', 'shown')
    assert cfg.custom_hooks[1] == dict(type='VideoOverlayHook', fps=4, out_dir='shown')
    assert len(cfg.custom_hooks) == 2


class TestRequireFit:
    """A checkpoint of another network is told before mmengine loads what happens to fit."""

    @pytest.fixture(scope='class')
    def model(self) -> torch.nn.Module:
        return make_boxvis()

    @pytest.fixture
    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        return dict(model.state_dict())

    @pytest.mark.parametrize('wrapped', [False, True])
    def test_own_weights_fit(
        self, model: torch.nn.Module, state: dict[str, torch.Tensor], wrapped: bool, tmp_path: Path
    ) -> None:
        # what a checkpoint may lack: the teacher, and counters that old ones do not have
        kept = {
            name: tensor
            for name, tensor in state.items()
            if name.startswith('student.') and not name.endswith('num_batches_tracked')
        }
        path = tmp_path / 'own.pth'
        torch.save(dict(state_dict=kept) if wrapped else kept, path)
        require_fit(model, str(path))

    @pytest.mark.parametrize('fault', ['missing', 'shape'])
    def test_one_wrong_tensor_is_named(
        self, model: torch.nn.Module, state: dict[str, torch.Tensor], fault: str, tmp_path: Path
    ) -> None:
        name = next(name for name in state if name.startswith('student.') and 'weight' in name)
        tensor = state.pop(name)
        if fault == 'shape':
            state[name] = torch.zeros(2, 3)
        torch.save(state, tmp_path / 'other.pth')
        with pytest.raises(UsageError, match=r'other\.pth does not fit the config: 1 of') as caught:
            require_fit(model, str(tmp_path / 'other.pth'))
        assert f'{name} {tuple(tensor.shape)}' in str(caught.value)

    def test_a_file_without_a_network(self, model: torch.nn.Module, tmp_path: Path) -> None:
        torch.save({'weight': torch.zeros(1)}, tmp_path / 'other.pth')
        with pytest.raises(UsageError, match='no checkpoint of ours'):
            require_fit(model, str(tmp_path / 'other.pth'))

    def test_a_checkpoint_at_an_address_has_to_fit_as_well(
        self, model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def download(url: str, target: str, progress: bool) -> None:
            torch.save({'student.of_another': torch.zeros(1)}, target)

        monkeypatch.setenv('TORCH_HOME', str(tmp_path))
        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        with pytest.raises(UsageError, match='does not fit the config'):
            require_fit(model, 'https://example.org/weights.pth')


def test_scores_are_written_and_printed(
    test_tool: ModuleType,
    config: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = {'AP': 0.25, 'AP_50': torch.tensor(0.5), 'AP_l': -1}
    runner = SimpleNamespace(test=lambda: scores, model=None)
    monkeypatch.setattr(test_tool, 'build_runner', lambda cfg: runner)
    monkeypatch.setattr(test_tool, 'require_fit', lambda model, path: None)
    monkeypatch.setattr(test_tool, 'check_parts', lambda runner, args: None)
    test_tool.main([str(config), str(checkpoint), '--work-dir', str(tmp_path / 'run')])
    written = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert written.pop('test_seconds') >= 0
    assert written == {'AP': 0.25, 'AP_50': 0.5, 'AP_l': -1}
    assert 'AP 0.2500  AP_50 0.5000' in capsys.readouterr().out


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'some.json'
    _cli.write_json(path, {'a': 1})
    with pytest.raises(TypeError):
        _cli.write_json(path, {'a': object()})
    assert json.loads(path.read_text()) == {'a': 1}
    assert os.listdir(path.parent) == ['some.json']


# ------------------------------------------------------------------ the other tools


@pytest.mark.parametrize(
    'path',
    ['tools/train.py', 'tools/test.py', 'tools/quickstart.py', 'tools/misc/print_config.py'],
)
def test_help(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_script(path).main(['--help'])
    assert stop.value.code == 0
    assert '--help' in capsys.readouterr().out


def test_print_config(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = load_script('tools/misc/print_config.py')
    saved = tmp_path / 'out' / 'saved.py'
    tool.main([str(config), '--save-path', str(saved), '--cfg-options', 'model.depth=3'])
    assert 'depth=3' in capsys.readouterr().out
    assert Config.fromfile(saved).model.depth == 3
    with pytest.raises(SystemExit, match='there is no config'):
        tool.main([str(tmp_path / 'nowhere.py')])


@pytest.mark.parametrize('name', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_shell_scripts_say_how_they_are_used(name: str) -> None:
    command = ['bash', f'tools/{name}.sh']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and result.stderr.startswith(f'usage: tools/{name}.sh')


def shown_arguments(tmp_path: Path, program: str) -> Path:
    """A stand-in for ``program`` that prints what it was called with, one argument a line."""
    path = tmp_path / program
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return path


def run_script(*command: str, **variables: str) -> list[str]:
    result = subprocess.run(
        ['bash', *command],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    ('name', 'positional'),
    [('train', ['part', 'job', 'c.py', 'dir']), ('test', ['part', 'job', 'c.py', 'some.pth'])],
)
def test_slurm_scripts(tmp_path: Path, name: str, positional: list[str]) -> None:
    shown_arguments(tmp_path, 'srun')
    arguments = run_script(
        f'tools/slurm_{name}.sh',
        *positional,
        *('--cfg-options', 'a=[1, 2]'),
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='16',
        CPUS_PER_TASK='3',
        SRUN_ARGS='--quotatype=spot --async',
    )
    wanted = {'--partition=part', '--job-name=job', '--ntasks=16', '--gres=gpu:8'}
    assert wanted | {'--cpus-per-task=3', '--quotatype=spot', '--async'} <= set(arguments)
    given = '--work-dir' if name == 'train' else 'some.pth'
    assert given in arguments and positional[3] in arguments
    assert arguments[-4:] == ['--launcher', 'slurm', '--cfg-options', 'a=[1, 2]']


@pytest.mark.parametrize('end', ['exit 75', 'touch {}/dir/interrupted; exit 143'])
@pytest.mark.parametrize('in_batch', [False, True])
def test_interrupted_slurm_job_goes_on(tmp_path: Path, in_batch: bool, end: str) -> None:
    """A stand-in for srun ends as an interrupted run does, the first time that it is called."""
    (tmp_path / 'dir').mkdir()
    srun = tmp_path / 'srun'
    srun.write_text(
        f'#!/bin/sh\necho "srun $@"\n[ -e {tmp_path}/once ] && exit 0\n'
        f'touch {tmp_path}/once\n{end.format(tmp_path)}\n'
    )
    srun.chmod(0o755)
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho "scontrol $@"\n')
    scontrol.chmod(0o755)
    variables = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
    variables.pop('SLURM_RESTART_COUNT', None)
    if in_batch:
        variables['SLURM_JOB_ID'] = '12'
    command = ['bash', 'tools/slurm_train.sh', 'part', 'job', 'c.py', f'{tmp_path}/dir']

    def run() -> tuple[int, list[str]]:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout.splitlines()

    code, lines = run()
    assert not lines[0].endswith('--resume')
    if in_batch:
        assert code == 75 and lines[1:] == ['scontrol requeue 12']
        variables['SLURM_RESTART_COUNT'] = '1'
        code, lines = run()
        assert code == 0 and lines[0].endswith('--launcher slurm --resume')
    else:
        assert code == 0 and lines[1].endswith('--launcher slurm --resume')


def test_slurm_job_submitted_again_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    shown_arguments(tmp_path, 'srun')
    (tmp_path / 'dir').mkdir()
    command = ['tools/slurm_train.sh', 'part', 'job', 'c.py', f'{tmp_path}/dir']
    variables = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', SLURM_RESTART_COUNT='0')
    assert '--resume' not in run_script(*command, **variables)
    (tmp_path / 'dir/interrupted').touch()
    assert run_script(*command, **variables)[-1] == '--resume'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_dist_train_passes_signals_on(tmp_path: Path, number: int) -> None:
    """To all processes, and waits for them."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    for name in ('_launch.sh', 'dist_train.sh'):
        shutil.copy(ROOT / 'tools' / name, tools)
    (tools / 'train.py').write_text(
        'import os, pathlib, signal, sys, time\n'
        'here = pathlib.Path(__file__).parent\n'
        'def stop(number, frame):\n'
        '    time.sleep(0.3)\n'
        '    (here / f"saved_{os.environ[\'RANK\']}_{number}").touch()\n'
        '    sys.exit(75)\n'
        f'signal.signal({int(number)}, stop)\n'
        '(here / f"ready_{os.environ[\'RANK\']}").touch()\n'
        'time.sleep(60)\n'
    )
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        ['bash', str(tools / 'dist_train.sh'), 'c.py', '2'],
        env={**os.environ, 'PORT': port, 'PYTHON': sys.executable},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list(tools.glob('ready_*'))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    assert sorted(p.name for p in tools.glob('saved_*')) == [
        f'saved_{rank}_{int(number)}' for rank in (0, 1)
    ]


def test_slurm_script_passes_signals_on(tmp_path: Path) -> None:
    """And waits for the checkpoint to be written."""
    srun = tmp_path / 'srun'
    srun.write_text(
        '#!/bin/bash\ntrap "sleep 0.5; echo saved; exit 3" TERM\necho ready\n'
        'while :; do sleep 0.05; done\n'
    )
    srun.chmod(0o755)
    process = subprocess.Popen(
        ['bash', 'tools/slurm_train.sh', 'part', 'job', 'c.py', 'dir'],
        cwd=ROOT,
        env={**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert output == 'saved\n' and process.returncode == 3


@pytest.mark.parametrize(
    ('name', 'positional'), [('train', ['c.py', '4']), ('test', ['c.py', 'some.pth', '4'])]
)
def test_dist_scripts_on_several_nodes(tmp_path: Path, name: str, positional: list[str]) -> None:
    python = shown_arguments(tmp_path, 'python')
    variables = dict(PYTHON=str(python), NNODES='2', NODE_RANK='1', MASTER_ADDR='host', PORT='7')
    arguments = run_script(f'tools/dist_{name}.sh', *positional, '--work-dir', 'x y', **variables)
    assert arguments[:7] == [
        *('-m', 'torch.distributed.run', '--nnodes=2', '--node_rank=1', '--master_addr=host'),
        *('--master_port=7', '--nproc_per_node=4'),
    ]
    assert arguments[-4:] == ['--launcher', 'pytorch', '--work-dir', 'x y']
    assert arguments[7].endswith(f'tools/{name}.py') and arguments[8] == 'c.py'


# ------------------------------------------------------------------ quickstart.py


@pytest.fixture(scope='module')
def quickstart() -> ModuleType:
    return load_script('tools/quickstart.py')


def test_quickstart_work_dirs(quickstart: ModuleType) -> None:
    parse: Callable[[list[str]], argparse.Namespace] = quickstart.parse_args
    assert parse([]).work_dir == Path('work_dirs/quickstart')
    assert parse(['--config', 'a/twin.py']).work_dir == Path('work_dirs/quickstart_twin')
    assert parse(['--work-dir', 'x']).work_dir == Path('x')
    with pytest.raises(SystemExit):
        parse(['--max-iters', '0'])


@pytest.mark.parametrize('max_iters', [1, 2, 90, 900, 1800])
def test_schedule_keeps_its_shape(max_iters: int) -> None:
    cfg = Config(
        dict(
            train_cfg=dict(max_iters=900),
            default_hooks=dict(logger=dict(interval=50)),
            param_scheduler=[
                dict(type='LinearLR', begin=0, end=90),
                dict(type='CosineAnnealingLR', begin=90, end=900, T_max=810),
                dict(type='MultiStepLR', milestones=[450], end=900),
            ],
        )
    )
    options = schedule_options(cfg, max_iters)
    assert options['train_cfg.max_iters'] == max_iters
    assert options['train_cfg.val_begin'] > max_iters
    assert options['default_hooks.logger.interval'] == min(50, max_iters)
    for index in range(3):
        begin, end = (options[f'param_scheduler.{index}.{key}'] for key in ('begin', 'end'))
        assert begin < end <= max_iters
    if max_iters >= 90:
        assert options['param_scheduler.1.begin'] == max_iters // 10
        assert options['param_scheduler.2.milestones'] == [max_iters // 2]
    cfg.merge_from_dict(options)
    assert cfg.param_scheduler[0].end == options['param_scheduler.0.end']


def test_clear_leaves_what_is_not_ours(quickstart: ModuleType, tmp_path: Path) -> None:
    for name in ('iter_5.pth', 'metrics.json', 'overlay.mp4', 'mine.pth', 'mine.json'):
        (tmp_path / name).touch()
    quickstart.clear(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['mine.json', 'mine.pth']


def test_failed_tool_stops_with_one_line(
    quickstart: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r'tools/nowhere\.py failed with exit code 2'):
        quickstart.run_tool('nowhere.py')
    with pytest.raises(SystemExit, match='there is no config'):
        quickstart.main(['--config', str(tmp_path / 'nowhere.py')])


def test_config_of_other_data_is_refused(quickstart: ModuleType) -> None:
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='Other'))))
    with pytest.raises(UsageError, match='does not train on ToyVIS'):
        quickstart.make_data(cfg)
