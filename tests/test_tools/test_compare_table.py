"""The table of tools/compare.py: which runs it has, in which order, with which gains."""
import importlib
import json

import pytest
from support.tools import TOOLS


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('compare_table')


def write_results(work_dir, **scores):
    """Finished runs, by name: AP by seed."""
    for name, by_seed in scores.items():
        for seed, score in by_seed.items():
            folder = work_dir / name / f'seed{seed}'
            folder.mkdir(parents=True)
            (folder / 'result.json').write_text(json.dumps(
                dict(AP=score, curve=[[1, score]], parameters=2e6, seconds=0.5, checkpoint='')))


def test_table_of_all_runs_of_a_work_dir(table, tmp_path):
    write_results(tmp_path, kd={0: 40.}, pkd={10: 47., 0: 45., 2: 49.}, student={0: 44., 2: 46.},
                  teacher={0: 50.})
    (tmp_path / 'unfinished' / 'seed0').mkdir(parents=True)
    runs = table.collected_runs(str(tmp_path))
    assert list(runs) == ['teacher', 'student', 'pkd', 'kd']
    assert [result['seed'] for result in runs['pkd']] == [0, 2, 10]
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in table.make_table(runs).splitlines()]
    assert rows[0][:4] == ['model', 'seeds', 'AP', 'gain in AP']
    assert [row[:4] for row in rows[2:]] == [
        ['teacher', '1', '50.0', ''],
        ['student alone', '2', '45.0 ± 1.4', ''],
        # 45 - 44 and 49 - 46; the student alone has no run with seed 10.
        ['student + pkd', '3', '47.0 ± 2.0', '+2.0 ± 1.4 (2 of 3)'],
        ['student + KD', '1', '40.0', '-4.0']]


def test_rows_with_one_seed_have_a_remark(table, tmp_path):
    write_results(tmp_path, kd={0: 40., 1: 41.}, student={0: 44., 2: 46.}, teacher={0: 50.})
    assert table.remark_on(table.collected_runs(str(tmp_path))) == ''
    write_results(tmp_path, pkd={0: 40.})
    assert 'add some by --seeds' in table.remark_on(table.collected_runs(str(tmp_path)))


def test_gain_needs_the_student_alone(table, tmp_path):
    write_results(tmp_path, kd={0: 40.}, pkd={1: 45.}, student={1: 44.})
    cells = {line.split('|')[1].strip(): line.split('|')[4].strip()
             for line in table.make_table(table.collected_runs(str(tmp_path))).splitlines()}
    assert cells['student + KD'] == 'not comparable'
    assert cells['student + pkd'] == '+1.0'


def test_empty_work_dir_is_named(table, tmp_path):
    with pytest.raises(SystemExit, match=f'no finished run in {tmp_path}; train some'):
        table.collected_runs(str(tmp_path))


def test_intervals_have_a_column(table, tmp_path):
    write_results(tmp_path, kd={0: 40.}, pkd={0: 45.}, student={0: 44.})
    text = table.make_table(table.collected_runs(str(tmp_path)), dict(pkd=(-0.5, 2.25)))
    cells = {line.split('|')[1].strip(): line.split('|')[5].strip() for line in text.splitlines()}
    assert cells['model'] == '95 % over images'
    assert cells['student + pkd'] == '-0.5 to +2.2'
    assert cells['student alone'] == cells['student + KD'] == ''


@pytest.mark.parametrize('change', [
    dict(fingerprint={'val_dataloader.dataset.ann_file': 'sha256 b'}), dict(curve=[[2, 45.]])],
    ids=['other images', 'another schedule'])
def test_runs_that_differ_in_more_than_the_method_have_no_gain(table, change):
    alone = dict(seed=0, AP=44., curve=[[1, 44.]], parameters=1, seconds=1.,
                 fingerprint={'val_dataloader.dataset.ann_file': 'sha256 a', 'the config': 'c'})
    better = dict(alone, AP=45., fingerprint=dict(alone['fingerprint'], **{'the config': 'd'}))
    assert table.gain([better], [alone], 'AP') == '+1.0'
    assert table.gain([dict(better, **change)], [alone], 'AP') == 'not comparable'
    assert table.gain([dict(better, **change), better], [alone], 'AP') == '+1.0 (1 of 2)'


def test_other_folders_are_no_runs(table, tmp_path):
    write_results(tmp_path, kd={0: 40.})
    (tmp_path / 'kd' / 'seed0').rename(tmp_path / 'kd' / 'seed0_old')
    write_results(tmp_path, kd={1: 41.})
    assert [run['AP'] for run in table.collected_runs(str(tmp_path))['kd']] == [41.]
