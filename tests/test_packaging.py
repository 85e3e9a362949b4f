"""The wheel contains configs and tools, and requires no package that OpenMMLab already installs."""
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = ('mmkd', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE',
           'MANIFEST.in', 'model-index.yml')


def build(folder, what):
    """The file that setup.py makes in a folder: `bdist_wheel` or `sdist`."""
    done = subprocess.run([sys.executable, 'setup.py', '-q', what, '-d', 'out'], cwd=folder,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path, = (folder / 'out').glob('*')
    return path


def sources(folder):
    for name in SOURCES:
        source = os.path.join(ROOT, name)
        if os.path.isdir(source):
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    return zipfile.ZipFile(build(sources(tmp_path_factory.mktemp('wheel')), 'bdist_wheel'))


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel_alone(wheel, tmp_path):
    archive = build(sources(tmp_path), 'sdist')
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / 'unpacked', filter='data')
    folder, = (tmp_path / 'unpacked').iterdir()
    with zipfile.ZipFile(build(folder, 'bdist_wheel')) as other:
        assert sorted(other.namelist()) == sorted(wheel.namelist())


def test_configs_and_tools_are_in_openmmlabs_folder(wheel):
    names = set(wheel.namelist())
    assert {'mmkd/.mim/model-index.yml', 'mmkd/.mim/configs/dist/retinanet_r50.py',
            'mmkd/.mim/configs/bccd/_base_/bccd.py', 'mmkd/.mim/tools/train.py',
            'mmkd/.mim/tools/dist_train.sh', 'mmkd/losses/dist.py', 'mmkd/py.typed'} <= names
    assert not any(name.startswith('tests') for name in names)


def test_installation_requires_no_openmmlab_packages(wheel):
    name, = (n for n in wheel.namelist() if n.endswith('METADATA'))
    asked = [line for line in wheel.read(name).decode().splitlines()
             if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert asked == ['Requires-Dist: numpy']


def test_metadata(wheel):
    name, = (n for n in wheel.namelist() if n.endswith('METADATA'))
    text = wheel.read(name).decode()
    from mmkd.version import __version__
    assert f'\nVersion: {__version__}\n' in text
    for extra in ('cache', 'report', 'foundation', 'sweep', 'all', 'det', 'seg', 'cls', 'docs',
                  'notebooks'):
        assert f'\nProvides-Extra: {extra}\n' in text
    with open(os.path.join(ROOT, 'CITATION.cff')) as file:
        assert f'\nversion: {__version__}\n' in file.read()


@pytest.fixture
def installed(wheel, tmp_path):
    """Unpack the wheel; return a function that runs mmkd's commands from another folder."""
    wheel.extractall(tmp_path / 'site')

    def call(*words):
        return subprocess.run([sys.executable, '-W', 'ignore', '-m', 'mmkd', *words], cwd=tmp_path,
                              env=dict(os.environ, PYTHONPATH=str(tmp_path / 'site')),
                              capture_output=True, text=True)

    return call


@pytest.mark.slow
def test_commands_run_from_any_folder(installed):
    from mmkd.__main__ import path_of, tools_of
    done = installed('env')
    assert done.returncode == 0, done.stderr
    assert re.search(r'^torch +\d', done.stdout, re.MULTILINE)
    assert re.search(r'^python +\d', done.stdout, re.MULTILINE)
    done = installed('train', 'nowhere.py')
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith('python -m mmkd train: no config `nowhere.py`')
    assert 'usage: python -m mmkd report ' in installed('report', '--help').stdout
    tools = tools_of(os.path.join(ROOT, 'tools'))
    assert {'train', 'test', 'inspect', 'compare', 'publish', 'label', 'env',
            'sweep'} <= set(tools)
    assert {'common', 'command', 'launch', 'written', 'sweep_loop', 'sweep_trial'}.isdisjoint(tools)
    assert path_of('inspect-pair', tools) == path_of('inspect', tools) != ''


BROKEN = """
import sys
from importlib import metadata
find = metadata.Distribution.from_name
def without(name):
    if name in {names}:
        raise metadata.PackageNotFoundError(name)
    return find(name)
metadata.Distribution.from_name = without
for name in {names}:
    sys.modules[name] = None
"""


@pytest.mark.slow
@pytest.mark.parametrize('names', [
    ('mmcv', ), ('mmengine', 'mmcv', 'mmdet', 'mmseg'), ('torch', 'mmengine', 'mmcv')])
def test_an_environment_that_lacks_packages_is_reported(tmp_path, names):
    """By `env`, which runs there, and by any other command, in a few lines."""
    (tmp_path / 'sitecustomize.py').write_text(BROKEN.format(
        names=(*names, *(f'onedl-{name}' for name in names))))

    def call(*words):
        return subprocess.run([sys.executable, '-W', 'ignore', *words], cwd=tmp_path,
                              env=dict(os.environ, PYTHONPATH=f'{tmp_path}:{ROOT}'),
                              capture_output=True, text=True)

    for words in (('-m', 'mmkd', 'env'), (f'{ROOT}/tools/env.py', )):
        done = call(*words)
        assert done.returncode == 0, done.stderr
        assert re.search(r'^mmcv +not installed$', done.stdout, re.MULTILINE)
        assert re.search(r'^torch +not installed$' if 'torch' in names else r'^torch +\d',
                         done.stdout, re.MULTILINE)
    for words, prog in ((('-m', 'mmkd', 'train', 'a.py'), 'mmkd'),
                        ((f'{ROOT}/tools/train.py', 'a.py'), 'train.py')):
        done = call(*words)
        assert done.returncode == 1
        assert 'Traceback' not in done.stderr
        assert f'{prog}: mmkd cannot work with the packages of this environment' in done.stderr
        assert 'mmcv is not installed; `pip install "mmcv>=2.0,<2.2"`' in done.stderr


@pytest.mark.parametrize(('variables', 'expected'), [
    ({}, ('8', '8')), (dict(GPUS='4'), ('4', '4')), (dict(GPUS='16'), ('16', '8')),
    (dict(GPUS='8', GPUS_PER_NODE='4'), ('8', '4'))])
def test_slurm_is_asked_for_no_more_gpus_per_node_than_there_are(tmp_path, variables, expected):
    """A program in place of srun prints its arguments."""
    (tmp_path / 'srun').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    done = subprocess.run(
        ['bash', f'{ROOT}/tools/slurm_train.sh', 'part', 'job', 'config.py', 'out', '--amp'],
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}', **variables},
        capture_output=True, text=True, check=True)
    tasks, per_node = expected
    assert f'--gres=gpu:{per_node} --ntasks={tasks} --ntasks-per-node={per_node} ' in done.stdout
    assert done.stdout.rstrip().endswith(
        'train.py config.py --work-dir=out --launcher=slurm --amp')


def test_unknown_command_is_named(monkeypatch, capsys):
    from mmkd import __main__ as commands
    monkeypatch.setattr(sys, 'argv', ['mmkd', 'trian'])
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 2
    assert 'there is no command `trian` (closest: train); use one of' in capsys.readouterr().err
    monkeypatch.setattr(sys, 'argv', ['mmkd'])
    commands.main()
    assert '  train ' in capsys.readouterr().out
