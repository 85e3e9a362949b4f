"""docs/messages.md has the messages of the catalogue of faults: each kind, as it is said today."""
import json
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'messages.md'
ENTRY = re.compile(r'<!-- (?P<name>.*) -->\n- \*\*(?P<message>.*)\*\*\n'
                   r'    - \*Cause\*: (?P<cause>.*)\n    - \*Cure\*: (?P<cure>.*)\n')
MARKS = '; ', ': ', ', ', '. ', '? ', ' or ', ' and ', ' '


def plain(text):
    """Text of Markdown without its backslashes."""
    return re.sub(r'\\([\\*_<>\[\]$|])', r'\1', text)


def generator():
    sys.path.insert(0, str(ROOT / 'tests' / 'test_bad_input'))
    return runpy.run_path(str(ROOT / 'docs' / 'generate_messages.py'))


def entries():
    return {found['name'].replace('- -', '--'): found for found in ENTRY.finditer(PAGE.read_text())}


def test_every_entry_is_of_a_row_and_says_its_parts():
    """A message that has changed is found by the patterns of its row."""
    rows = generator()['rows']()
    assert len(entries()) > 100
    for name, found in entries().items():
        for part, pattern in rows[name].says._asdict().items():
            # The page splits a message where the cure begins, without the mark between them.
            whole = [f'{plain(found["message"])}{mark}{plain(found["cure"])}' for mark in MARKS]
            assert any(re.search(pattern, one, re.S) for one in whole), (
                name, part, pattern, found[0])


def test_every_kind_of_message_is_on_the_page():
    made = generator()
    rows = made['rows']()
    shown = {made['key_of'](rows[name]) for name in entries()}
    left = {made['key_of'](row): name for name, row in rows.items()
            if made['key_of'](row) not in shown}
    assert not left, f'run docs/generate_messages.py; the page has no {sorted(left.values())}'


def test_the_page_names_what_differs_from_run_to_run_by_dots():
    made = generator()
    assert made['plain']('/tmp/pytest-1/a/b.pth has 0x7f00aa11bb at\n 3') == '/…/b.pth has 0x… at 3'
    assert '/tmp' not in PAGE.read_text()
    assert json.loads(made['key_of'](next(iter(made['rows']().values()))))
