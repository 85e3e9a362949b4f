"""Run a tool from any folder: ``python -m mmkd train CONFIG`` is ``python tools/train.py CONFIG``.

The tools are in the folder `tools` beside the package, or in an installed wheel in `mmkd/.mim`. A
command has the name of a tool, or its first word: `inspect` for `inspect_pair.py`.
"""
import ast
import os
import runpy
import sys
from difflib import get_close_matches
from typing import Dict, Optional

from mmkd import import_error
from mmkd.core.requirements import check_installed

HERE = os.path.dirname(os.path.abspath(__file__))
REPORT = 'env'
"""The command that runs in any environment."""
FOLDERS = (os.path.join(HERE, '.mim', 'tools'), os.path.join(os.path.dirname(HERE), 'tools'))


def tools_of(folder: str) -> Dict[str, str]:
    """Paths of the tools of a folder, by command."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.endswith('.py'):
            with open(path, encoding='utf-8') as file:
                if '\n    run(main' in file.read():  # what every tool ends with
                    found[name[:-3]] = path
    words = [name.partition('_')[0] for name in found]
    return {word if words.count(word) == 1 else name: path
            for word, (name, path) in zip(words, found.items())}


def path_of(command: str, tools: Dict[str, str]) -> str:
    """Path of the tool that a command runs; '' if there is none."""
    command = command.replace('-', '_')
    full = {os.path.basename(path)[:-3]: path for path in tools.values()}
    return tools.get(command) or full.get(command, '')


def summary_of(path: str) -> str:
    """First line of a tool's docstring."""
    with open(path, encoding='utf-8') as file:
        text = ast.get_docstring(ast.parse(file.read())) or ''
    return text.split('\n\n')[0].replace('\n', ' ')


def usage(tools: Dict[str, str]) -> str:
    """The list of commands."""
    width = max(map(len, tools), default=0)
    return '\n'.join(['usage: python -m mmkd COMMAND [options]', '', *(
        f'  {name:{width}}  {summary_of(path)}' for name, path in tools.items()), '',
        '`python -m mmkd COMMAND --help` lists the options of a command.'])


def check_environment() -> None:
    """Check that mmkd can be imported as a whole.

    Raises:
        SystemExit: If it cannot.
    """
    error: Optional[Exception] = import_error
    if error is not None or 'mmkd.openmmlab' not in sys.modules:  # without MMEngine
        try:
            check_installed()
        except ImportError as found:
            error = found
    if error is not None:
        kind = '' if isinstance(error, ImportError) else f'{type(error).__name__}: '
        raise SystemExit(f'mmkd: {kind}{error}')


def main() -> None:
    """Run the tool that the command line names."""
    folder = next(filter(os.path.isdir, FOLDERS), None)
    if folder is None:
        raise SystemExit(f'mmkd: the tools are in none of {", ".join(FOLDERS)}; install mmkd again')
    tools = tools_of(folder)
    command = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if command in ('-h', '--help'):
        print(usage(tools))
        return
    path = path_of(command, tools)
    if not path:
        nearest = get_close_matches(command, tools, n=1)
        print(f'mmkd: there is no command `{command}`' +
              (f' (closest: {nearest[0]})' if nearest else '') +
              f'; use one of {", ".join(tools)}', file=sys.stderr)
        raise SystemExit(2)
    if command != REPORT:
        check_environment()
    sys.argv[:2] = [path]
    sys.path[0] = folder  # as for a script: tools import one another
    runpy.run_path(path, run_name='__main__')


if __name__ == '__main__':
    main()
