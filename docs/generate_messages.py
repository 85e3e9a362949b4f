"""Write docs/messages.md from the catalogue of faults, tests/test_bad_input: what is said, and why.

    python docs/generate_messages.py        # runs the catalogue: some minutes

tests/test_docs/test_messages.py compares the page with the rows of the catalogue.
"""
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / 'messages.md'
CATALOGUE = DOCS.parent / 'tests' / 'test_bad_input'
HEAD = '''# What can go wrong

The messages of mmkd, with cause and cure. Search for a few words of yours, without its numbers
and names. Messages that differ only in these are listed once.

This page is written by [`docs/generate_messages.py`](generate_messages.py) from the catalogue of
faults, [`tests/test_bad_input`](../tests/test_bad_input), whose tests cause each of them. What
mmkd guarantees beyond messages (killed runs, damaged files) is in
[when something goes wrong](faults.md).

A mistake is reported before the first batch if it can be detected there. `--debug` shows the
traceback. A traceback without `--debug` is a bug: please report it with the output of
`python -m mmkd env`.
'''
GROUPS = {
    'test_bad_entries': ('Config: entries, points, teachers, models',
                         'What a config says, and pairs that do not fit.'),
    'test_bad_files': ('Files: checkpoints, configs, caches', 'What a file holds, or lacks.'),
    'test_bad_data': ('Data: labels, boxes, images', 'What a batch holds.'),
    'test_bad_numbers': ('Numbers and tensors',
                         'Values that are infinite, NaN, or of other shapes.'),
}


class Said(NamedTuple):
    """What mmkd said about a row of the catalogue."""
    module: str
    name: str
    message: str


def key_of(row: Any) -> str:
    """Rows of one key differ only in what was written."""
    return json.dumps([row.says.expected, row.says.step])


def collect() -> List[Said]:
    """Run the catalogue, and keep each message with the name of its row."""
    sys.path[:0] = [str(CATALOGUE), str(CATALOGUE.parent)]
    import catalogue
    import pytest
    found: List[Said] = []
    check, one_of_them = catalogue.check_parts, re.compile(r'(test_bad_\w+)\.py::\w+\[(.*)\] ')

    def kept(message: str, parts: Any) -> None:
        node = one_of_them.search(os.environ.get('PYTEST_CURRENT_TEST', ''))
        if node:
            found.append(Said(node[1], node[2], message))
        check(message, parts)

    catalogue.check_parts = kept
    pytest.main([str(CATALOGUE), '-q', '-n', '0', '-p', 'no:cacheprovider',
                 '-m', 'slow or not slow', '--deselect', str(CATALOGUE / 'test_fuzz.py')])
    return found


def rows() -> Dict[str, Any]:
    """Rows of the catalogue that are refused, by name."""
    sys.path[:0] = [str(CATALOGUE), str(CATALOGUE.parent)]
    import test_catalogue
    return {row.name: row for row in test_catalogue.all_rows() if row.says}


def plain(message: str) -> str:
    """A message without what differs from run to run: folders and addresses."""
    message = re.sub(rf'{re.escape(tempfile.gettempdir())}/[\w./-]*/', '/…/', message)
    message = re.sub(r'0x[0-9a-f]{6,}', '0x…', message)
    message = message.replace(str(DOCS.parent), '/…').replace(sys.prefix, '/…')
    return ' '.join(message.split())


def page(said: List[Said]) -> str:
    """The text of docs/messages.md."""
    known, keys = rows(), set()
    parts = [HEAD]
    for module, (title, line) in GROUPS.items():
        parts += [f'## {title}', '', line, '']
        for one in sorted((one for one in said if one.module == module),
                          key=lambda one: (one.name.partition(':')[0], plain(one.message))):
            name = next((name for name in known if one.name == name or one.name.startswith(
                f'{name}-') or one.name.endswith(f'-{name}')), None)
            if name is None or key_of(known[name]) in keys:
                continue
            keys.add(key_of(known[name]))
            parts += [_entry(name, plain(one.message)), '']
    return '\n'.join(parts)


def _entry(name: str, message: str) -> str:
    """A row: what was tried, the message, and the part of it that says what to do."""
    from catalogue import STEP
    steps = list(STEP.finditer(message))
    first = next((found for mark in (';', '.', ':', '') for found in steps
                  if found[0].startswith(mark)), None)
    at = first.start() if first else len(message)
    cause, cure = message[:at], message[at:].lstrip(' ;:,.')
    return (f'<!-- {name.replace("--", "- -")} -->\n- **{_safe(cause)}**\n    - *Cause*: '
            f'{_tried(name)}\n    - *Cure*: {_safe(cure)}')


def _tried(name: str) -> str:
    """What a row tries: code, or a few words."""
    what = re.sub(r'^\w+: ', '', name)
    return f'`` {what} ``' if '=' in what else _safe(what)


def _safe(text: str) -> str:
    """Text without what Markdown or HTML would read as its own, but for code."""
    parts = re.split(r'(`[^`]*`)', text)
    return ''.join(part if part.startswith('`') and part.endswith('`') and len(part) > 1 else
                   re.sub(r'([\\*_<>\[\]$|])', r'\\\1', part) for part in parts)


if __name__ == '__main__':
    everything = collect()
    PAGE.write_text(page(everything))
    print(f'{PAGE}: {len(everything)} messages')
