"""Every block of code of a page is checked by one of the other files of this folder, or says why
not.

test_python.py runs code, test_configs.py prepares configs, test_commands.py parses commands, and
`make docs-check` runs commands and compares the outputs that the pages show.
"""
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = runpy.run_path(str(ROOT / 'docs' / 'site' / 'blocks.py'))
NOT_RUN = '<!-- not run: needs a GPU -->\n\n'


def blocks(text):
    return list(BLOCKS['blocks_of']('page.md', text))


@pytest.mark.parametrize('page', BLOCKS['pages']())
def test_every_block_is_checked_or_says_why_not(page):
    assert not [block.fault for block in BLOCKS['blocks_of'](page) if block.fault]


@pytest.mark.parametrize(('text', 'kind'), [
    ('```console\n$ ls\na\n```\n', 'console'),
    ('```python\nimport mmkd\n```\n', 'python'),
    ("```python\nteacher=dict(config='a.py'),\ndistill=[dict(on='cls')]\n```\n", 'config'),
    ('```python\nmodel = dict(a=1)\n```\n', 'config'),
    ('A:\n\n    python tools/train.py A \\\n        --amp\n    make test  # all\n\nB', 'commands'),
    ('A:\n\n    for one in a b; do\n        python tools/train.py $one\n    done\n', 'commands'),
    ('```bash\nOMP_NUM_THREADS=1 tools/dist_train.sh A 2\n```\n', 'commands'),
    ('A:\n\n    loss: 1.0\n', None), ('```\nloss: 1.0\n```\n', None),
    ('```yaml\na: 1\n```\n', None), ('```python\nmodel = dict(…)\n```\n', None),
    ('- A list\n\n  ```\n  loss: 1.0\n  ```\n', None)])
def test_the_kind_of_a_block(text, kind):
    block, = blocks('# Page\n\n' + text)
    assert block.kind == kind
    assert bool(block.fault) is (kind is None)


@pytest.mark.parametrize('text', ['- A list\n\n    its second paragraph\n', 'A `line` of code\n',
                                  '1. A list\n   goes on\n\n     and on\n'])
def test_text_is_no_block(text):
    assert not blocks('# Page\n\n' + text)


def test_a_mark_needs_a_reason():
    code = '```\nloss: 1.0\n```\n'
    block, = blocks(NOT_RUN + code)
    assert (block.marks, block.fault) == ({'not run': 'needs a GPU'}, '')
    block, = blocks('<!-- not run: -->\n' + code)
    assert block.fault == ('page.md:2: `not run` without a reason; write '
                           '<!-- not run: REASON -->')
    *_, block = blocks(NOT_RUN + code + '\n' + code)  # the mark is of the first block alone
    assert block.fault.startswith('page.md:7: a block of no kind')


def test_marks_and_lines():
    one, two = blocks('a\n\n<!-- on: segmentor -->\n```python\nb = 1\n```\n\n    make test\n')
    assert (one.line, one.marks, one.text) == (4, {'on': 'segmentor'}, 'b = 1\n')
    assert (two.line, two.marks, two.text) == (8, {}, 'make test\n')
