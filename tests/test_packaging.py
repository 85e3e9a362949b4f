"""The wheel carries configs and tools, and asks for nothing that an mm environment has already."""
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = ('mmkd', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE',
           'MANIFEST.in', 'model-index.yml')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    for name in SOURCES:
        source = os.path.join(ROOT, name)
        if os.path.isdir(source):
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(source, folder / name)
    result = subprocess.run([sys.executable, 'setup.py', '-q', 'bdist_wheel', '-d', 'out'],
                            cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    path, = (folder / 'out').glob('*.whl')
    return zipfile.ZipFile(path)


def test_configs_and_tools_lie_where_openmmlab_looks(wheel):
    names = set(wheel.namelist())
    assert {'mmkd/.mim/model-index.yml', 'mmkd/.mim/configs/dist/retinanet_r50.py',
            'mmkd/.mim/configs/bccd/_base_/bccd.py', 'mmkd/.mim/tools/train.py',
            'mmkd/.mim/tools/dist_train.sh', 'mmkd/losses/dist.py', 'mmkd/py.typed'} <= names
    assert not any(name.startswith('tests') for name in names)


def test_installing_touches_nothing_of_the_stack(wheel):
    name, = (n for n in wheel.namelist() if n.endswith('METADATA'))
    asked = [line for line in wheel.read(name).decode().splitlines()
             if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert asked == ['Requires-Dist: numpy']
