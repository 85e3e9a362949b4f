"""Run the commands of the documentation, and compare what they print with what the pages show.

    python docs/site/snippets.py                       # all pages: make docs-check
    python docs/site/snippets.py docs/quickstart.md    # one page
    python docs/site/snippets.py --write docs/auto.md  # put what came out into the page

A block of the language `console` has commands behind `$ `, each with its output. `...` in it stands
for any text, and a line of it for any lines. The commands of a page run one after the other in an
empty folder that has configs/, tools/ and examples/ of the repository.
"""
import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = 'configs', 'tools', 'examples', 'docs'
BLOCK = re.compile(r'^```console\n(?P<inside>.*?)^```$', re.M | re.S)
LIMIT = 1800
"""Seconds that a command may take."""


class Command(NamedTuple):
    """A command of a page, and the output that stands below it."""
    text: str
    output: str


def commands_of(inside: str) -> List[Command]:
    """The commands of a block."""
    found: List[Tuple[List[str], List[str]]] = []
    for line in inside.splitlines():
        if line.startswith('$ '):
            found.append(([line[2:]], []))
        elif not found:
            raise ValueError(f'a console block begins with a command, `$ ...`, but got {line!r}')
        elif found[-1][0][-1].endswith('\\') and not found[-1][1]:
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [Command('\n'.join(text), '\n'.join(output)) for text, output in found]


def matches(expected: str, got: str) -> bool:
    """Whether an output is what a page shows, where `...` stands for any text."""
    parts = [re.escape(part) for part in _trimmed(expected).split('...')]
    return re.fullmatch('.*'.join(parts), _trimmed(got), re.S) is not None


def _trimmed(text: str) -> str:
    return '\n'.join(line.rstrip() for line in text.strip('\n').splitlines())


def run(command: str, folder: str) -> str:
    """What a command prints, without Python's warnings; the errors of mmkd's tools included."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get('PATH', '')])
    environment = dict(os.environ, PATH=path, PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore',
                       OMP_NUM_THREADS='1', COLUMNS='120')
    done = subprocess.run(['bash', '-c', command], cwd=folder, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
    return done.stdout


def folder_with_the_tools(at: str) -> str:
    """Link what the commands of the documentation need into a folder."""
    for name in FOLDERS:
        os.symlink(ROOT / name, os.path.join(at, name))
    return at


def check(page: Path, is_written: bool) -> Iterator[str]:
    """Run the commands of a page; yield what differs."""
    text = page.read_text()
    with tempfile.TemporaryDirectory() as scratch:
        folder_with_the_tools(scratch)
        for block in list(BLOCK.finditer(text)):
            inside = ''
            for command in commands_of(block['inside']):
                start = time.time()
                got = _trimmed(run(command.text, scratch))
                print(f'{page.name}: {time.time() - start:4.0f} s  {command.text}', flush=True)
                is_same = matches(command.output, got)
                kept = command.output if is_same or '...' in command.output else got
                inside += f'$ {command.text}\n' + (f'{kept}\n' if kept else '')
                if not is_same and (kept is command.output or not is_written):
                    yield f'{page.name}: {command.text}\n' + '\n'.join(difflib.unified_diff(
                        command.output.splitlines(), got.splitlines(), 'the page', 'what came out',
                        lineterm=''))
            if is_written:
                page.write_text(page.read_text().replace(block['inside'], inside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('pages', nargs='*', type=Path, help='by default all')
    parser.add_argument('--write', action='store_true', help='put what came out into the pages')
    args = parser.parse_args()
    pages = args.pages or sorted([ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')])
    faults = [fault for page in pages if BLOCK.search(page.read_text())
              for fault in check(page, args.write)]
    print('\n\n'.join(faults) or 'Every command printed what its page shows.')
    sys.exit(bool(faults))


if __name__ == '__main__':
    main()
