"""Make a virtual environment with the pinned stack, operators of onedl-mmcv included.

Called by ``make setup``, ``make quickstart`` and ``make test``; needs nothing but the standard
library. Each step is skipped where it is done, so a broken-off set-up is taken up again by the
same command, and a finished one is recognised in well under a second.

The registry offers onedl-mmcv as a source distribution only, and a plain ``pip install`` of it
gives a package without operators (``No module named 'mmcv._ext'``), because pip builds it in an
environment without torch. So this script takes a wheel with operators where pip finds one
(``PIP_FIND_LINKS``), and otherwise compiles one beside the installed torch and keeps it in
``.wheels/``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
LOCK = REQUIREMENTS / 'lock.txt'
WHEELS = ROOT / '.wheels'
OPS = 'onedl-mmcv'
STAMP = '.mmboxvis-setup.json'

# Run inside the environment: what is there, as one line of JSON.
PROBE = """
import json, os, torch
from torch.utils.cpp_extension import CUDA_HOME
gpu = torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1'
found = dict(torch=torch.__version__, gpu=gpu, nvcc=bool(CUDA_HOME), mmcv='')
try:
    import mmcv
    found['mmcv'] = mmcv.__version__
    from mmcv.ops import get_compiling_cuda_version
    found['ops'] = 'cpu' if 'not available' in get_compiling_cuda_version() else 'cuda'
except ImportError as error:
    found['ops'], found['why'] = '', str(error)
print(json.dumps(found))
"""


class SetupError(Exception):
    """A set-up that cannot go on; the message says what to do."""


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f'[setup] {text}', flush=True)


# ------------------------------------------------------------------ what is asked for


def read_pins() -> dict[str, str]:
    """Return name -> version of every line of the lock file, names in canonical form."""
    pins = {}
    for line in LOCK.read_text().splitlines():
        name, separator, version = line.partition('==')
        if separator and not line.startswith('#'):
            pins[canonical(name)] = version.strip()
    return pins


def canonical(name: str) -> str:
    """Return a distribution's name as the registry normalises it."""
    return re.sub(r'[-_.]+', '-', name.strip()).lower()


def required_names(dev: bool) -> set[str]:
    """Return the canonical names that the requirement files ask for."""
    files = ['build', 'mminstall', 'runtime', *(['tests'] if dev else [])]
    names = set()
    for file in files:
        for line in (REQUIREMENTS / f'{file}.txt').read_text().splitlines():
            match = re.match(r'[A-Za-z0-9._-]+', line)
            if match:
                names.add(canonical(match.group()))
    return names


def fingerprint() -> str:
    """Return a hash of everything that a finished set-up depends on."""
    digest = hashlib.sha256(f'{ROOT}|{platform.python_version()}'.encode())
    for path in [*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py', Path(__file__)]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


# ------------------------------------------------------------------ the environment


class Environment:
    """The virtual environment that is being set up.

    Args:
        path: Its folder, e.g. ``.venv``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bin = path / ('Scripts' if os.name == 'nt' else 'bin')
        self.python = self.bin / ('python.exe' if os.name == 'nt' else 'python')

    @property
    def site_packages(self) -> Path:
        """Where its packages lie."""
        variables = {'base': str(self.path), 'platbase': str(self.path)}
        return Path(sysconfig.get_path('purelib', scheme='venv', vars=variables))

    def run(self, *command: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python with these arguments; never raises for its exit code."""
        return subprocess.run(  # type: ignore[call-overload]
            [str(self.python), *command], cwd=ROOT, text=True, **kwargs
        )

    def pip(self, *arguments: str) -> None:
        """Run pip, which inherits the user's settings (``PIP_FIND_LINKS`` and the rest).

        Raises:
            SetupError: If pip fails; its own output says why.
        """
        quiet = [] if sys.stdout.isatty() else ['--quiet']
        command = ['-m', 'pip', '--disable-pip-version-check', *arguments[:1], *quiet]
        if self.run(*command, *arguments[1:]).returncode:
            raise SetupError(
                f'pip could not finish: pip {" ".join(arguments)}\n'
                'Read its message above; the same make command goes on from here.'
            )

    def probe(self) -> dict[str, object]:
        """Ask the environment for torch, GPU, nvcc and the operators.

        Raises:
            SetupError: If torch itself cannot be imported.
        """
        result = self.run('-c', PROBE, capture_output=True)
        if result.returncode:
            raise SetupError(f'torch cannot be imported in {self.path}:\n{result.stderr.strip()}')
        return json.loads(result.stdout.strip().splitlines()[-1])

    def make(self) -> None:
        """Create the environment, or create it anew where its Python does not run.

        Raises:
            SetupError: If Python's venv module is not complete, or the folder holds other things.
        """
        wanted = f'{sys.version_info[0]}.{sys.version_info[1]}'
        check = f'import pip, sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})'
        if self.python.exists() and self.run('-c', check, capture_output=True).returncode == 0:
            return
        ours = (self.path / 'pyvenv.cfg').exists() or not self.path.exists()
        if not ours and (not self.path.is_dir() or any(self.path.iterdir())):
            raise SetupError(
                f'{self.path} is there and is no virtual environment; remove it or name '
                'another folder: make setup VENV=...'
            )
        say(f'making {self.path} with Python {wanted}')
        command = [sys.executable, '-m', 'venv', '--clear', str(self.path)]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise SetupError(
                f'Python {wanted} could not make a virtual environment. On Debian and Ubuntu '
                f'its venv module is a package of its own: apt-get install python{wanted}-venv'
            )


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two make commands at once do not set up the same folder."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there the user takes care
        yield
        return
    with path.open('w') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say('another set-up of this folder is running; waiting for it')
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------------ finished already?


def is_current(env: Environment, dev: bool) -> bool:
    """Tell, without importing anything of the stack, whether the set-up is finished."""
    stamp = env.path / STAMP
    try:
        done = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return False
    if done.get('fingerprint') != fingerprint() or (dev and not done.get('dev')):
        return False
    if not env.python.exists() or not any((env.site_packages / 'mmcv').glob('_ext.*')):
        return False
    installed = {
        canonical(dist.metadata['Name']): dist.version.partition('+')[0]
        for dist in metadata.distributions(path=[str(env.site_packages)])
    }
    pins = read_pins()
    return 'mmboxvis' in installed and all(
        installed.get(name) == pins.get(name) for name in required_names(dev)
    )


def write_stamp(env: Environment, dev: bool) -> None:
    """Note that the set-up is finished; comes last, so a half-done one has no stamp."""
    stamp = env.path / STAMP
    temporary = stamp.with_suffix('.tmp')
    temporary.write_text(json.dumps({'fingerprint': fingerprint(), 'dev': dev}))
    os.replace(temporary, stamp)


# ------------------------------------------------------------------ the operators


def has_operators(wheel: Path) -> bool:
    """Tell whether a wheel of onedl-mmcv holds the compiled module."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return any(name.startswith('mmcv/_ext.') for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def find_wheel(env: Environment, version: str) -> Path | None:
    """Return a wheel with operators that pip finds (find-links or an index), if any.

    Only wheels are asked for: pip's cache may hold one without operators that was built from
    the source distribution.
    """
    folder = WHEELS / 'found'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    env.run(
        *('-m', 'pip', '--disable-pip-version-check', 'download', '--quiet', '--no-deps'),
        *('--only-binary', OPS, '--dest', str(folder), f'{OPS}=={version}'),
        capture_output=True,
    )
    return next((path for path in folder.glob('*.whl') if has_operators(path)), None)


def require_compiler() -> None:
    """Check what the compile needs before anything large is fetched.

    Raises:
        SetupError: Naming what is missing and how to install it.
    """
    compilers = [os.environ.get('CXX', ''), 'c++', 'g++', 'clang++']
    missing = []
    if not any(name and shutil.which(name.split()[0]) for name in compilers):
        missing.append(
            'a C++ compiler (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; '
            'macOS: xcode-select --install)'
        )
    if not (Path(sysconfig.get_path('include')) / 'Python.h').exists():
        version = f'{sys.version_info[0]}.{sys.version_info[1]}'
        missing.append(
            f"Python's C headers (Debian, Ubuntu: apt-get install python{version}-dev; "
            f'Fedora: dnf install python{version}-devel)'
        )
    if missing:
        raise SetupError(
            'The operators of onedl-mmcv have to be compiled here, and that needs '
            + ' and '.join(missing)
            + '.\nA folder with a ready wheel of onedl-mmcv in PIP_FIND_LINKS would do as well.'
        )


def build_folder(found: dict[str, object]) -> Path:
    """Return where the wheel for this torch, with or without CUDA, is kept."""
    kind = 'cuda' if found['gpu'] and found['nvcc'] else 'cpu'
    return WHEELS / f'torch-{found["torch"]}-{kind}'


def build_wheel(env: Environment, version: str, found: dict[str, object]) -> Path:
    """Compile onedl-mmcv with operators beside the installed torch, and keep the wheel.

    Returns:
        The wheel, in ``.wheels/torch-<version>-<cpu or cuda>``.

    Raises:
        SetupError: If the compile fails; names the log.
    """
    folder = build_folder(found)
    kept = next((path for path in folder.glob('*.whl') if has_operators(path)), None)
    if kept:
        return kept
    require_compiler()
    variables = build_variables(env, found)
    folder.mkdir(parents=True, exist_ok=True)
    log = WHEELS / 'build.log'
    say(f'compiling the operators of {OPS} {version} with {variables["MAX_JOBS"]} jobs: once,')
    say(f'6 to 12 minutes on two cores; the wheel is kept in {folder.relative_to(ROOT)}')
    temporary = folder / 'unfinished'
    command = [
        *(str(env.python), '-m', 'pip', '--disable-pip-version-check', 'wheel', '--verbose'),
        # --no-build-isolation lets the build see torch; pip's cache may hold a build without it.
        *('--no-build-isolation', '--no-cache-dir', '--no-deps', '--no-binary', OPS),
        *('--wheel-dir', str(temporary), f'{OPS}=={version}'),
    ]
    start = time.monotonic()
    code = run_with_progress(command, variables, log)
    wheel = next((path for path in temporary.glob('*.whl') if has_operators(path)), None)
    if code or wheel is None:
        tail = ''.join(log.read_text(errors='replace').splitlines(keepends=True)[-30:])
        raise SetupError(f'{tail}\nThe operators did not compile; the whole log: {log}')
    kept = folder / wheel.name
    os.replace(wheel, kept)
    shutil.rmtree(temporary)
    say(f'compiled in {(time.monotonic() - start) / 60:.1f} minutes')
    return kept


def build_variables(env: Environment, found: dict[str, object]) -> dict[str, str]:
    """Return the process environment for the compile."""
    variables = dict(os.environ)
    variables['PATH'] = f'{env.bin}{os.pathsep}{variables.get("PATH", "")}'  # ninja lies there
    variables.setdefault('MAX_JOBS', str(parallel_jobs()))
    variables.setdefault('CFLAGS', '-g0')
    if platform.system() == 'Linux':
        variables.setdefault('LDFLAGS', '-Wl,-s')
    variables.pop('NINJA_STATUS', None)  # the progress below reads ninja's own form
    if found['gpu'] and not found['nvcc']:
        say('a GPU is there but no nvcc (CUDA toolkit): the operators are compiled for CPU only')
        variables['CUDA_VISIBLE_DEVICES'] = ''
    return variables


def parallel_jobs() -> int:
    """Return how many compilers fit: one a core, and 2 GiB of memory for each."""
    try:
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError, OSError):
        return os.cpu_count() or 1
    return max(1, min(cores, memory // 2**31))


def run_with_progress(command: Sequence[str], variables: dict[str, str], log: Path) -> int:
    """Run a ninja build, its output to ``log`` and its ``[done/total]`` counts to the screen."""
    live = sys.stdout.isatty()
    start, shown = time.monotonic(), 0.0
    with log.open('w') as sink:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=variables,
            text=True,
            errors='replace',
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        for line in process.stdout:
            sink.write(line)
            count = re.match(r'\s*\[(\d+)/(\d+)\]', line)
            now = time.monotonic()
            last = count is not None and count[1] == count[2]
            if count and (last or now - shown >= (1 if live else 30)):
                shown = now
                text = f'[setup]   {count[1]} of {count[2]} files, {(now - start) / 60:.1f} min'
                print(text, end='\r' if live and not last else '\n', flush=True)
        return process.wait()


# ------------------------------------------------------------------ the steps


def install(env: Environment, dev: bool) -> None:
    """Bring the environment to the pinned stack, step by step."""
    pins = read_pins()
    version = pins[OPS]
    env.make()
    wheel = find_wheel(env, version)
    if wheel is None and not any(WHEELS.glob('torch-*/*.whl')):
        require_compiler()  # before two gigabytes of torch are fetched
    constraint = ('--constraint', str(LOCK))
    say('installing torch')
    env.pip('install', *constraint, '-r', str(REQUIREMENTS / 'build.txt'), 'torch')
    install_operators(env, version, wheel)
    say('installing the rest of the stack')
    files = ['mminstall', 'runtime', *(['tests'] if dev else [])]
    listed = [part for name in files for part in ('-r', str(REQUIREMENTS / f'{name}.txt'))]
    env.pip('install', *constraint, *listed)
    mend_opencv(env, pins)
    say('installing mmboxvis itself (editable)')
    env.pip('install', '--no-deps', '--no-build-isolation', '--editable', str(ROOT))
    verify(env)


def install_operators(env: Environment, version: str, wheel: Path | None) -> None:
    """Install onedl-mmcv so that ``mmcv._ext`` imports; compile where no wheel does.

    Raises:
        SetupError: If even the freshly compiled operators do not import.
    """
    found = env.probe()
    if wheel is not None and not operators_fit(found, version):
        say(f'installing {OPS} with operators from {wheel.name}')
        found = put_wheel(env, wheel)
    if not operators_fit(found, version):
        if wheel is not None:
            say('the wheel that pip found does not fit this torch, or lacks CUDA')
        found = put_wheel(env, build_wheel(env, version, found))
    if not found['ops']:
        raise SetupError(
            f'the compiled operators do not import: {found["why"]}\n'
            f'Remove {build_folder(found)} and run the same command to compile them anew.'
        )


def put_wheel(env: Environment, wheel: Path) -> dict[str, object]:
    """Install a wheel of onedl-mmcv over whatever is there, and look again."""
    env.pip('install', '--force-reinstall', '--no-deps', str(wheel))
    env.pip('install', '--constraint', str(LOCK), str(wheel))  # now what it depends on
    return env.probe()


def operators_fit(found: dict[str, object], version: str) -> bool:
    """Tell whether the operators import, and serve the GPU where they could be made to."""
    if found['mmcv'] != version:
        return False
    return found['ops'] == 'cuda' or (
        found['ops'] == 'cpu' and not (found['gpu'] and found['nvcc'])
    )


def mend_opencv(env: Environment, pins: dict[str, str]) -> None:
    """Let the headless build of OpenCV win where the other one misses the system's libGL.

    mmcv asks for one and imaug for the other; both write the same folder.
    """
    if env.run('-c', 'import cv2', capture_output=True).returncode:
        name = 'opencv-python-headless'
        say(f'OpenCV does not import (no libGL?): putting {name} on top')
        env.pip('install', '--force-reinstall', '--no-deps', f'{name}=={pins[name]}')


def verify(env: Environment) -> None:
    """Import what was installed.

    Raises:
        SetupError: If mmboxvis does not import.
    """
    result = env.run('-c', 'import mmcv.ops, mmdet, mmboxvis', capture_output=True)
    if result.returncode:
        raise SetupError(f'the finished environment does not import:\n{result.stderr.strip()}')
    found = env.probe()
    say(f'torch {found["torch"]}, operators for {found["ops"]}')
    if found['gpu'] and found['ops'] == 'cpu':
        say('Warning: a GPU is there but the operators are for CPU only, so training on the GPU')
        say('will fail. Install the CUDA toolkit (nvcc) and run the same command again.')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dev', action='store_true', help='also what lint, types and tests need')
    parser.add_argument('--venv', default='.venv', help='folder of the virtual environment')
    parser.add_argument('--force', action='store_true', help='go through all steps again')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Set up, or see that nothing is left to do."""
    args = parse_args(argv)
    env = Environment((ROOT / args.venv).absolute())
    start = time.monotonic()
    WHEELS.mkdir(exist_ok=True)
    try:
        with one_at_a_time(WHEELS / '.lock'):
            if not args.force and is_current(env, args.dev):
                return 0
            dev = args.dev or (env.bin / 'pytest').exists()
            install(env, dev)
            write_stamp(env, dev)
    except SetupError as error:
        print(f'[setup] {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\n[setup] broken off; the same command goes on from here', file=sys.stderr)
        return 130
    say(f'finished in {time.monotonic() - start:.0f} s')
    return 0


if __name__ == '__main__':
    sys.exit(main())
