"""The cells of the matrix, and the table of its results."""
import importlib.util
import json
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope='module')
def matrix():
    sys.path.insert(0, str(HERE))
    spec = importlib.util.spec_from_file_location('matrix_of_stacks', HERE / 'matrix.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(HERE))
    return module


def test_the_short_tests_exist(matrix):
    assert [path for path in matrix.SHORT if not (ROOT / path).exists()] == []


def test_the_first_cell_is_the_oldest_that_mmkd_supports(matrix):
    from mmkd.core.requirements import REQUIREMENTS
    oldest = next(one.at_least for one in REQUIREMENTS if one.name == 'torch')
    first = next(iter(matrix.CELLS.values()))
    assert tuple(map(int, first.torch.split('.')))[:2] == oldest
    assert f'requires-python = ">={first.python}"' in (ROOT / 'pyproject.toml').read_text()


def test_every_cell_has_its_packages(matrix):
    for cell in matrix.CELLS.values():
        assert (ROOT / 'requirements' / f'stack_{cell.stack}.txt').is_file()
        assert matrix.mmcv_of(cell.stack).partition('==')[0].endswith('mmcv')


def test_counts_of_a_run(matrix, tmp_path):
    """A failure of the run must not pass for a success."""
    (tmp_path / 'test_some.py').write_text(
        'import pytest\ndef test_a(): pass\ndef test_b(): assert 0\n'
        'def test_c(): pytest.skip("no timm")\n@pytest.fixture\ndef d(): assert 0\n'
        'def test_d(d): pass\n')
    found = matrix.tested(sys.executable, tmp_path / 'report.xml',
                          [str(tmp_path), '-p', 'no:cacheprovider'], '0')
    assert (found['passed'], found['failed'], found['skipped']) == (1, 2, 1)
    assert found['reasons'] == {'no timm': 1}
    assert [one.split('::')[1] for one in found['failures']] == ['test_b', 'test_d']
    assert found['versions']['torch']
    (tmp_path / 'test_some.py').write_text(
        'import pytest\ndef test_a(): pass\ndef test_b(): pytest.exit("broken off")\n')
    with pytest.raises(SystemExit, match='broken off with code 2; nothing is recorded'):
        matrix.tested(sys.executable, tmp_path / 'report.xml',
                      [str(tmp_path), '-p', 'no:cacheprovider'], '0')


def test_table(matrix):
    run = dict(python='3.11.7', versions={'torch': '2.4.1', 'numpy': '1.26.4', 'mmcv': '2.1.0'},
               passed=5, failed=1, skipped=2, date='2026-01-02')
    page = f'before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n'
    text = matrix.with_table(page, {'torch-2.4': dict(short=run)})
    assert text.startswith(f'before\n{matrix.BEGIN}\n| cell |')
    assert text.endswith(f'{matrix.END}\nafter\n')
    assert ('| torch-2.4 | 3.11.7 | 2.4.1, 1.26.4 | 2.1.0 | short | 5, 1, 2 | 2026-01-02 |'
            in text)
    assert 'old' not in text


def test_the_page_shows_the_results(matrix):
    page = matrix.PAGE.read_text()
    assert matrix.with_table(page, json.loads(matrix.RESULTS.read_text())) == page
