"""The notebooks run in a clone, and what they show came out of a run."""
import os
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'docs' / 'notebooks'
NOTEBOOKS = sorted(one.name for one in FOLDER.glob('*.ipynb'))
SHORT = {
    '1_digits.ipynb': dict(EPOCHS=1),
    '2_your_data.ipynb': dict(EPOCHS=1, IMAGES=64),
    '3_segmentor.ipynb': dict(ITERATIONS=10),
    '4_your_loss.ipynb': dict(ITERATIONS=10)}
"""Parameters with which a notebook runs to its end in a minute."""
MOST_BYTES = 300_000


@pytest.fixture(scope='module')
def notebooks():
    """The functions of run.py; skips where nbclient or the kernel is absent, but not in CI."""
    if not os.environ.get('CI'):
        for name in ('nbclient', 'ipykernel'):
            pytest.importorskip(name, reason='the notebooks need `pip install -e .[notebooks]`')
    return runpy.run_path(str(FOLDER / 'run.py'))


def written(notebooks, *sources):
    """A notebook of cells with these sources; the first one has the parameters."""
    v4 = notebooks['nbformat'].v4
    cells = [v4.new_code_cell(source) for source in sources]
    cells[0].metadata['tags'] = ['parameters']
    return v4.new_notebook(cells=cells)


def run(notebooks, folder, *sources, **parameters):
    path = folder / 'one.ipynb'
    notebooks['nbformat'].write(written(notebooks, *sources), path)
    (folder / 'tree').mkdir()
    return notebooks['execute'](path, folder / 'tree', **parameters)


def test_every_notebook_is_run_and_listed():
    assert sorted(SHORT) == NOTEBOOKS
    page = (ROOT / 'docs' / 'notebooks.md').read_text()
    assert not [name for name in NOTEBOOKS if f'(notebooks/{name})' not in page]


@pytest.mark.slow
@pytest.mark.parametrize('name', NOTEBOOKS)
def test_a_notebook_runs(name, notebooks, tmp_path):
    def there():
        """Files of the repository; other tests write folders such as .pytest_cache meanwhile."""
        return [path for folder in (FOLDER, ROOT) for path in sorted(folder.iterdir())
                if not path.name.startswith('.')]

    before = there()
    made = notebooks['execute'](FOLDER / name, tmp_path, **SHORT[name])
    assert notebooks['faults'](made) == []
    assert there() == before


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_a_notebook_shows_a_run(name, notebooks):
    path = FOLDER / name
    assert notebooks['faults'](notebooks['nbformat'].read(path, 4)) == []
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.slow
@pytest.mark.parametrize('cell', ['1 / 0', '%%bash -e\nfalse\ntrue'])
def test_a_cell_that_fails_ends_the_run(cell, notebooks, tmp_path):
    from nbclient.exceptions import CellExecutionError
    with pytest.raises(CellExecutionError):
        run(notebooks, tmp_path, 'N = 1', cell)


@pytest.mark.slow
def test_parameters_are_replaced(notebooks, tmp_path):
    made = run(notebooks, tmp_path, 'N = 1  # of many', 'print(N + 1)', N=4)
    assert made.cells[1].outputs[0].text == '5\n'


def test_an_unknown_parameter_is_named(notebooks, tmp_path):
    with pytest.raises(ValueError, match='has no parameter `M`; its parameters are:\nN = 1'):
        run(notebooks, tmp_path, 'N = 1', M=4)


@pytest.mark.parametrize(('outputs', 'counts', 'fault'), [
    ([], [1, 2], 'no outputs'),
    (['fine'], [1, 3], 'cells were not run once each, from the first to the last'),
    (['fine'], [None, None], 'cells were not run once each, from the first to the last'),
    (['in /home/me/mmkd'], [1, 2], 'cell 1: shows the path /home/'),
    (['fine', 'C:\\me'], [1, 2], 'cell 1: shows the path C:\\'),
    ([ZeroDivisionError], [1, 2], 'cell 1: ZeroDivisionError')])
def test_faults_of_outputs_are_listed(outputs, counts, fault, notebooks):
    v4 = notebooks['nbformat'].v4
    notebook = written(notebooks, 'N = 1', 'N')
    for cell, count in zip(notebook.cells, counts):
        cell.execution_count = count
    notebook.cells[0].outputs = [
        v4.new_output('stream', text=one) if isinstance(one, str) else
        v4.new_output('error', ename=one.__name__, evalue='', traceback=[]) for one in outputs]
    assert notebooks['faults'](notebooks['tidy'](notebook)) == [fault]


def test_code_that_was_changed_after_the_run_is_found(notebooks):
    notebook = written(notebooks, 'N = 1')
    cell, = notebook.cells
    cell.execution_count = 1
    cell.outputs = [notebooks['nbformat'].v4.new_output('stream', text='fine')]
    notebooks['tidy'](notebook)
    assert notebooks['faults'](notebook) == []
    cell.source = 'N = 2'
    assert notebooks['faults'](notebook) == ['the code was changed after the run; run it again']


def test_outputs_without_faults(notebooks):
    notebook = written(notebooks, 'N = 1')
    notebook.cells[0].execution_count = 1
    notebook.cells[0].outputs = [notebooks['nbformat'].v4.new_output(
        'stream', text='work_dirs/home/epoch_1.pth 3/4 docs/tmp/a https://example.com/opt/x')]
    assert notebooks['faults'](notebooks['tidy'](notebook)) == []
