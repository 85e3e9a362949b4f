"""Test mmkd on another stack: make an environment for it, run tests there, keep the counts.

    python tests/matrix/matrix.py torch-2.4            # make test-matrix ENV=torch-2.4
    python tests/matrix/matrix.py torch-2.4 --whole    # all tests, not the short ones alone
    python tests/matrix/matrix.py --table              # only write the table in docs/install.md

Environments are in .matrix/, compiled wheels of mmcv in ~/.cache/mmkd/wheels, by torch and Python.
Counts go to docs/results/matrix.json and to docs/install.md. It needs only the standard library.
"""
import argparse
import collections
import datetime
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Dict, List, Sequence

from cells import CELLS, SHORT, Cell

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / 'docs' / 'results' / 'matrix.json'
PAGE = ROOT / 'docs' / 'install.md'
BEGIN, END = '<!-- matrix: written by tests/matrix/matrix.py --table -->', '<!-- end of matrix -->'
TESTS = ['pytest', 'pytest-xdist', 'hypothesis', 'safetensors', 'psutil', 'optuna', 'nbclient',
         'ipykernel']
SHOWN = ('torch', 'numpy', 'mmcv', 'mmengine', 'mmdet', 'mmsegmentation', 'onedl-mmcv',
         'onedl-mmengine', 'onedl-mmdetection', 'onedl-mmsegmentation')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('cell', nargs='?', choices=CELLS)
    parser.add_argument('--whole', action='store_true', help='all tests, the slow ones included')
    parser.add_argument('--workers', default='2')
    parser.add_argument('--table', action='store_true', help='only write the table')
    args = parser.parse_args()
    if bool(args.cell) == args.table:
        parser.error(f'name a cell, one of {", ".join(CELLS)}, or --table')
    return args


def main() -> int:
    args = parse_args()
    if args.table:
        write_table()
        return 0
    cell = CELLS[args.cell]
    python = environment(ROOT / '.matrix' / args.cell, cell)
    found = tested(python, ROOT / '.matrix' / args.cell / 'report.xml',
                   ['-m', 'slow or not slow'] if args.whole else SHORT, args.workers)
    kept: Dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept.setdefault(args.cell, {})['whole' if args.whole else 'short'] = found
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + '\n')
    write_table()
    print(f'{args.cell}: {found["passed"]} passed, {found["failed"]} failed, {found["skipped"]} '
          f'skipped in {found["seconds"]} s; {RESULTS.relative_to(ROOT)}')
    return int(found['failed'] > 0)


def write_table() -> None:
    PAGE.write_text(with_table(PAGE.read_text(), json.loads(RESULTS.read_text())))


def environment(folder: Path, cell: Cell) -> str:
    """Make the environment of a cell, unless it is there; return its interpreter."""
    python = str(folder / 'bin' / 'python')
    ready, packages = folder / 'ready', names_of(ROOT / 'requirements' / 'runtime.txt')
    wanted = repr((cell, packages, TESTS))
    if ready.exists() and ready.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    if shutil.which(f'python{cell.python}') is None:
        raise SystemExit(f'there is no python{cell.python}; install it, and put it on the PATH')
    call(f'python{cell.python}', '-m', 'venv', str(folder))
    limits = folder / 'constraints.txt'
    limits.write_text(f'torch=={cell.torch}\nnumpy=={cell.numpy}\nsetuptools<81\n')

    def pip(*options: str) -> None:
        call(python, '-m', 'pip', '--disable-pip-version-check', '--quiet', 'install', *options)

    pip('setuptools<81', 'wheel', 'ninja')
    try:
        pip(f'torch=={cell.torch}+cpu', f'numpy=={cell.numpy}')
    except subprocess.CalledProcessError:
        print(f'no build of torch {cell.torch} for the CPU alone: taking the default one')
        pip(f'torch=={cell.torch}', f'numpy=={cell.numpy}')
    pip('--no-deps', mmcv_wheel(python, mmcv_of(cell.stack)))
    pip('-c', str(limits), *packages, *TESTS)
    pip('--no-deps', '-r', str(ROOT / 'requirements' / f'stack_{cell.stack}.txt'))
    pip('--no-deps', '--no-build-isolation', '--editable', str(ROOT))
    ready.write_text(wanted)
    return python


def mmcv_of(stack: str) -> str:
    """The mmcv of a stack, `name==version`."""
    text = (ROOT / 'requirements' / 'versions.sh').read_text()
    return re.findall(rf'^MMCV_{stack.upper()}=(\S+)$', text, re.M)[0]


def mmcv_wheel(python: str, package: str) -> str:
    """Path of the compiled mmcv for the torch and Python of an environment."""
    tag = subprocess.check_output([python, '-c', (
        'import sys, torch; cuda = torch.version.cuda; print("torch-{}-{}-cp{}{}".format('
        'torch.__version__.split("+")[0], "cu" + cuda if cuda else "cpu", '
        '*sys.version_info[:2]))')], text=True).split()[-1]
    cache = os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache'))
    wheels = os.environ.get('MMKD_WHEELS', os.path.join(cache, 'mmkd', 'wheels'))
    folder = Path(wheels, f'{tag}-gpu0')
    name, version = package.split('==')
    pattern = str(folder / f'{name.replace("-", "_")}-{version}-*.whl')
    if not glob.glob(pattern):
        print(f'compiling {package} for {tag}, 10 to 25 minutes, once: {folder}', flush=True)
        call(python, '-m', 'pip', '--quiet', 'wheel', '--no-build-isolation', '--no-deps',
             '--no-cache-dir', '-w', str(folder / '.build'), package,
             MMCV_WITH_OPS='1', FORCE_CUDA='0', MAX_JOBS=os.environ.get('MAX_JOBS', '2'))
        for path in glob.glob(str(folder / '.build' / '*.whl')):
            shutil.move(path, folder)  # only complete wheels
        shutil.rmtree(folder / '.build')
    found = glob.glob(pattern)
    if not found:
        raise SystemExit(f'compiling {package} made no {pattern}; look into {folder}')
    return found[0]


def names_of(path: Path) -> List[str]:
    """Names of the packages in a file of requirements, without their versions."""
    return [line.partition('==')[0] for line in path.read_text().split('\n')
            if line and not line.startswith('#')]


def tested(python: str, report: Path, tests: Sequence[str], workers: str) -> Dict[str, Any]:
    """Run tests; counts, versions, and reasons of what was skipped or failed."""
    report.unlink(missing_ok=True)
    began = time.monotonic()
    ended = call(python, '-m', 'pytest', '-n', workers, '--dist', 'worksteal',
                 f'--junitxml={report}', *tests, check=False, OMP_NUM_THREADS='1')
    if ended > 1 or not report.exists():  # 1: some tests failed
        raise SystemExit(f'pytest was broken off with code {ended}; nothing is recorded')
    cases = list(ElementTree.parse(report).iter('testcase'))
    failed = [f'{case.get("classname")}::{case.get("name")}' for case in cases
              if case.find('failure') is not None or case.find('error') is not None]
    reasons = [re.sub(r'\s+', ' ', skip.get('message') or '')[:100] for case in cases
               for skip in case.findall('skipped')]
    listed = json.loads(subprocess.check_output([python, '-m', 'pip', 'list', '--format=json']))
    versions = {one['name'].lower(): one['version'] for one in listed}
    return dict(
        date=datetime.date.today().isoformat(), seconds=round(time.monotonic() - began),
        commit=subprocess.check_output(['git', 'describe', '--always', '--dirty'], text=True,
                                       cwd=ROOT).strip(),
        python=subprocess.check_output([python, '-c', 'import platform; print(platform.'
                                        'python_version())'], text=True).strip(),
        versions={one: versions[one] for one in SHOWN if one in versions},
        passed=len(cases) - len(failed) - len(reasons), failed=len(failed), failures=failed[:20],
        skipped=len(reasons), reasons=dict(collections.Counter(reasons).most_common(8)))


def with_table(page: str, found: Dict[str, Any]) -> str:
    """The page with a table of the results between its two marks."""
    head = ('cell', 'Python', 'torch, NumPy', 'mmcv, mmengine, mmdet, mmseg', 'tests',
            'passed, failed, skipped', 'date')
    rows = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    for name in CELLS:
        for kind, one in sorted(found.get(name, {}).items()):
            versions = one['versions']
            packages = [versions[key] for key in SHOWN[2:] if key in versions]
            rows.append('| ' + ' | '.join(map(str, (
                name, one['python'], f'{versions["torch"]}, {versions["numpy"]}',
                ', '.join(packages), kind,
                f'{one["passed"]}, {one["failed"]}, {one["skipped"]}', one['date']))) + ' |')
    before, _, rest = page.partition(BEGIN)
    return f'{before}{BEGIN}\n' + '\n'.join(rows) + f'\n{END}{rest.partition(END)[2]}'


def call(*command: str, check: bool = True, **variables: str) -> int:
    return subprocess.run(command, check=check, cwd=ROOT,
                          env=dict(os.environ, **variables)).returncode


if __name__ == '__main__':
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f'{" ".join(error.cmd[:6])} … ended with code {error.returncode}')
