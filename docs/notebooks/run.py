"""Run the notebooks of this folder, and write what came out into them.

    python docs/notebooks/run.py                     # all; needs pip install -e ".[notebooks]"
    python docs/notebooks/run.py docs/notebooks/3_segmentor.ipynb
"""
import hashlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, List

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
LINKED = 'configs', 'examples', 'mmkd', 'tools'
"""What the notebooks use of the repository. They write into data/ and work_dirs/."""
MACHINE = re.compile(r'(?<![\w.])/(?:home|root|tmp|work|mnt|Users|usr|opt|var)/|[A-Z]:\\')


def execute(path: Path, folder: Path, **parameters: Any) -> Any:
    """Run a notebook in a tree of links to the repository, which stays as it is.

    Args:
        path (Path): The notebook; it is not written.
        folder (Path): An empty folder for the tree.
        parameters: Values in place of those of the cell with the tag `parameters`.

    Returns:
        NotebookNode: The notebook with its outputs.

    Raises:
        CellExecutionError: If a cell raises.
        ValueError: If the notebook does not set one of the parameters.
    """
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    inside = folder / 'docs' / 'notebooks'
    inside.mkdir(parents=True)
    notebook = nbformat.read(path, 4)
    cell, = (one for one in notebook.cells if 'parameters' in one.metadata.get('tags', ()))
    for name, value in parameters.items():
        cell.source, count = re.subn(rf'^{name} = .*$', f'{name} = {value!r}', cell.source,
                                     flags=re.M)
        if not count:
            raise ValueError(f'{path.name} has no parameter `{name}`; its parameters are:\n'
                             f'{cell.source}')
    NotebookClient(notebook, timeout=None, kernel_name='python3', coalesce_streams=True,
                   resources=dict(metadata=dict(path=str(inside)))).execute()
    return tidy(notebook)


def tidy(notebook: Any) -> Any:
    """Remove what changes with each run and machine, and is no output; note which code was run."""
    notebook.metadata = dict(
        kernelspec=dict(display_name='Python 3', language='python', name='python3'),
        language_info=dict(name='python'), code_of_outputs=digest_of(notebook))
    for cell in notebook.cells:
        cell.metadata.pop('execution', None)
    return notebook


def digest_of(notebook: Any) -> str:
    """SHA-256 of the code of all cells."""
    code = [one.source for one in notebook.cells if one.cell_type == 'code']
    return hashlib.sha256('\0'.join(code).encode()).hexdigest()


def faults(notebook: Any) -> List[str]:
    """What a reader of a notebook should not see: one line for each.

    No run, a run of cells in another order or of other code, an error, or a path of the machine
    that it ran on.
    """
    cells = [one for one in notebook.cells if one.cell_type == 'code']
    found = []
    if [one.execution_count for one in cells] != list(range(1, len(cells) + 1)):
        found.append('cells were not run once each, from the first to the last')
    if not any(one.outputs for one in cells):
        found.append('no outputs')
    if notebook.metadata.get('code_of_outputs') != digest_of(notebook):
        found.append('the code was changed after the run; run it again')
    for cell in cells:
        where = f'cell {cell.execution_count}'
        for output in cell.outputs:
            if output.output_type == 'error':
                found.append(f'{where}: {output.ename}')
            texts = [output.get('text', ''), *(
                value for kind, value in output.get('data', {}).items()
                if not kind.startswith('image/'))]
            found += [f'{where}: shows the path {one[0]}' for text in texts
                      for one in [MACHINE.search(str(text))] if one]
    return found


def main() -> None:
    for path in map(Path, sys.argv[1:] or sorted(map(str, FOLDER.glob('*.ipynb')))):
        begin, before = time.time(), sum(os.times()[2:4])  # of all processes below this one
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        worked = sum(os.times()[2:4]) - before
        print(f'{path.name}: {(time.time() - begin) / 60:.1f} minutes, {worked / 60:.1f} of one '
              'processor')
        lines = faults(notebook)
        if lines:
            sys.exit('\n'.join([f'{path.name} is not written:', *lines]))
        nbformat.write(notebook, path)


if __name__ == '__main__':
    main()
