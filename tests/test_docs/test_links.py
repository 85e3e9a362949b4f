"""Links between files of the repository lead to a file, and to a heading that is there."""
import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = runpy.run_path(str(ROOT / 'docs' / 'site' / 'places.py'))
PAGES = sorted(str(one.relative_to(ROOT)) for pattern in (
    '*.md', 'docs/**/*.md', 'docs/**/*.ipynb', 'configs/**/*.md') for one in ROOT.glob(pattern))


def anchors(text):
    """Anchors of the headings as GitHub makes them: lower case, no punctuation, hyphens."""
    blank = PLACES['CODE'].sub(lambda found: '' if '\n' in found[0] else found[0], text)
    found = set()
    for heading in re.findall(r'^#{1,6} (.*)$', blank, re.M):
        plain = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading)
        found.add(re.sub(r'[^\w\- ]', '', plain.strip().lower()).replace(' ', '-'))
    return found


def lost_links(text, path):
    """The links of a text at this path that lead nowhere."""
    lost = []
    for found in PLACES['links'](text):
        target = PLACES['target_of'](found, path) if found['target'] else path
        file = ROOT / target
        if not file.exists():
            lost.append(found['target'])
        elif found['anchor'] and file.suffix == '.md' and (
                found['anchor'][1:] not in anchors(file.read_text())):
            lost.append(found['target'] + found['anchor'])
    return lost


@pytest.mark.parametrize('path', PAGES)
def test_every_link_leads_somewhere(path):
    assert not lost_links(PLACES['text_of'](path), path)


@pytest.mark.parametrize(('link', 'is_lost'), [
    ('docs/zoo.md', False), ('docs/no_such_page.md', True), ('docs/zoo.md#mmdet', False),
    ('docs/zoo.md#mmdet-4', True), ('https://example.com/nowhere', False), ('docs', False)])
def test_a_link_that_leads_nowhere_is_found(link, is_lost):
    assert lost_links(f'A [link]({link}).', 'README.md') == [link] * is_lost
    assert not lost_links(f'Code: `[link]({link})`, and\n\n```\n[link]({link})\n```\n', 'README.md')


@pytest.mark.parametrize(('path', 'page'), [
    ('README.md', 'index.md'), ('docs/zoo.md', 'zoo.md'), ('docs/schemes', 'schemes/README.md'),
    ('mmkd/losses/pkd.py', 'source/mmkd/losses/pkd.py.md'),
    ('configs/dist', 'source/configs/dist/index.md'),
    ('docs/notebooks/1_digits.ipynb', 'source/docs/notebooks/1_digits.ipynb.md'),
    ('docs/generate_methods.py', 'source/docs/generate_methods.py.md')])
def test_every_file_has_a_page_of_the_site(path, page):
    assert PLACES['page_of'](path) == page


def test_links_of_a_page_lead_to_pages_of_the_site():
    text, lost = PLACES['for_the_site'](
        '[a](../mmkd/losses/pkd.py), [b](zoo.md#mmdet), [c](../README.md), [d](gone.md), `[a](x)`',
        'docs/auto.md', 'auto.md')
    assert text == ('[a](source/mmkd/losses/pkd.py.md), [b](zoo.md#mmdet), [c](index.md), '
                    '[d](gone.md), `[a](x)`')
    assert lost == ['gone.md']


def test_a_notebook_is_a_page_with_its_outputs():
    cells = [
        dict(cell_type='markdown', source=['# Title\n', 'A [link](zoo.md).']),
        dict(cell_type='code', source=['%%bash\n', 'ls'], outputs=[dict(text=['a\n', 'b\n'])]),
        dict(cell_type='code', source='table', outputs=[
            dict(data={'text/markdown': ['| a |'], 'text/plain': ['<Markdown>']}),
            dict(data={'image/png': 'QUJD\nRA==\n', 'text/plain': ['<Figure>']})])]
    text = json.dumps(dict(cells=cells))
    page = runpy.run_path(str(ROOT / 'docs' / 'site' / 'notebooks.py'))
    assert page['as_markdown'](text) == (
        '# Title\nA [link](zoo.md).\n\n```bash\n%%bash\nls\n```\n\n```text\na\nb\n```\n\n'
        '```python\ntable\n```\n\n| a |\n\n'
        '<img alt="What the cell draws" src="data:image/png;base64,QUJDRA==">\n')
    assert page['markdown_cells'](text) == '# Title\nA [link](zoo.md).'
