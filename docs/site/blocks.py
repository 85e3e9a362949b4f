"""Which blocks of code has a page, and of which kind is each?

A kind says how a block is checked:

- `console`: commands with their output. `make docs-check` runs them, and compares the output.
- `commands`: indented, or of the language `bash`. The tests give each command to the parser of its
  tool, after the shell has expanded it. Files that it reads from the repository must exist.
- `python`: code. The tests run the blocks of a page one after the other.
- `config`: assignments of a config, or arguments of the Distiller. The tests put them on top of a
  small pair of models, and prepare it as before the first batch.

A comment above a block changes this: `<!-- not run: REASON -->`, or `<!-- on: BASE -->` with the
models that it is put on, by default one-stage detectors (tests/support/pages.py).
"""
import ast
import contextlib
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {'docs/methods.md': 'the entries of mmkd.losses.METHODS, which the tests of mmkd run',
             'docs/messages.md': 'messages of the rows of tests/test_bad_input'}
"""Pages of which a script writes all blocks, and why the blocks are right."""
FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$',
                   re.M | re.S)
INDENTED = re.compile(r'(?<=\n\n)(?:(?: {4}.*)?\n)*? {4}.*(?:\n(?:\n*) {4}.*)*', re.M)
MARK = re.compile(r'^<!-- (?P<name>not run|on): *(?P<value>.*?) *-->$')
PROGRAMS = re.compile(r'(?:[A-Z_]+=\S+ )*(?:python|make|mim|pip|git|(?:tools|benchmarks)/\S+)\b')
SHELL = re.compile(r'(?:for|do|done|if|then|fi)\b|\w+=|#|(?:cd|source) ')


class Block(NamedTuple):
    """A block of code of a page."""
    page: str
    line: int
    kind: Optional[str]
    """None if it is of no kind."""
    text: str
    marks: Dict[str, str]

    @property
    def place(self) -> str:
        return f'{self.page}:{self.line}'

    @property
    def fault(self) -> str:
        """Why nothing checks the block; '' if it is checked, or says why not."""
        if self.marks.get('not run'):
            return ''
        if 'not run' in self.marks:
            return f'{self.place}: `not run` without a reason; write <!-- not run: REASON -->'
        if self.kind is None:
            return (f'{self.place}: a block of no kind; make it a command, `python`, or `console` '
                    'with its output, or write <!-- not run: REASON --> above it')
        return ''


def pages() -> List[str]:
    """Pages whose blocks are checked, by their paths in the repository."""
    found = sorted({path.relative_to(ROOT).as_posix() for pattern in (
        '*.md', 'docs/**/*.md', 'configs/**/*.md', 'examples/**/*.md', '.github/**/*.md')
        for path in ROOT.glob(pattern)})
    return [page for page in found if page not in GENERATED]


def blocks_of(page: str, text: Optional[str] = None) -> Iterator[Block]:
    """The blocks of a page, in order.

    Args:
        page (str): Path in the repository, with slashes.
        text (str, optional): Its text. Defaults to None, that of the file.
    """
    if text is None:
        text = (ROOT / page).read_text()
    found = [(one.start(), _kind(one['language'], one['text']),
              _without(one['indent'], one['text'])) for one in FENCE.finditer(text)]
    blank = FENCE.sub(lambda one: re.sub(r'[^\n]', '.', one[0]), text)
    for one in INDENTED.finditer(blank):
        start = one.end() - len(one[0].lstrip('\n'))
        if not _in_list(blank[:start]):
            inside = _without(' ' * 4, text[start:one.end()])
            found.append((start, _kind('bash', inside), inside))
    for start, kind, inside in sorted(found):
        yield Block(page, text.count('\n', 0, start) + 1, kind, inside.strip('\n') + '\n',
                    _marks(text[:start]))


def _without(indent: str, text: str) -> str:
    return re.sub(f'^{indent}', '', text, flags=re.M)


def _in_list(before: str) -> bool:
    """Whether an indented text continues an item of a list, rather than being code."""
    last = [line for line in before.splitlines() if line.strip()][-1:]
    lines = before.rstrip().splitlines()
    while lines and re.match(r'  ', lines[-1]) and lines[-1].strip():
        lines.pop()
    return bool(last) and bool(lines) and re.match(r'(?:[-*]|\d+\.) ', lines[-1]) is not None


def _marks(before: str) -> Dict[str, str]:
    """What comments directly above a block say."""
    marks: Dict[str, str] = {}
    for line in reversed(before.splitlines()):
        found = MARK.match(line)
        if found:
            marks[found['name']] = found['value']
        elif line.strip():
            break
    return marks


def _kind(language: str, text: str) -> Optional[str]:
    if language == 'console':
        return language
    if language == 'bash':
        lines = text.replace('\\\n', ' ').strip('\n').splitlines()
        is_shell = all(PROGRAMS.match(line.strip()) or SHELL.match(line.strip())
                       for line in lines if line.strip())
        return 'commands' if is_shell and re.search(PROGRAMS, text) else None
    if language != 'python':
        return None
    tree = parsed(text)
    if tree is None:
        return None
    return 'config' if all(isinstance(one, ast.Assign) for one in tree.body) else 'python'


def parsed(code: str) -> Optional[ast.Module]:
    """A block as a module, where arguments of a call, `teacher=dict(...), distill=[...]`, count as
    assignments; None if it is neither."""
    with contextlib.suppress(SyntaxError):
        tree = ast.parse(code)
        if not any(isinstance(one, ast.Assign) and isinstance(one.value, ast.Tuple)
                   for one in tree.body):
            return tree
    try:
        call = ast.parse(f'f(\n{code}\n)').body[0].value  # type: ignore[attr-defined]
    except SyntaxError:
        return None
    if call.args or not all(one.arg for one in call.keywords):
        return None
    body: List[ast.stmt] = [ast.Assign([ast.Name(one.arg, ast.Store())], one.value, lineno=1)
                            for one in call.keywords]
    return ast.fix_missing_locations(ast.Module(body, []))
