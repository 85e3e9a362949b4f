"""The check of the built site finds links that lead nowhere and things from a network."""
import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'docs' / 'site' /
                           'check_built.py'))


def site(folder, body):
    (folder / 'other').mkdir()
    (folder / 'other' / 'index.html').write_text('<h1 id="top">Other</h1>')
    (folder / 'page.html').write_text(f'<h1 id="here">Page</h1>{body}')
    return folder


@pytest.mark.parametrize('body', [
    '<a href="other/index.html">a</a>', '<a href="other/#top">a</a>', '<a href="#here">a</a>',
    '<a href="page.html">a</a>', '<a href="https://example.com/x">pages elsewhere</a>'])
def test_links_that_lead_somewhere(tmp_path, body):
    assert CHECK['faults'](site(tmp_path, body)) == []


@pytest.mark.parametrize(('body', 'fault'), [
    ('<a href="gone.html">a</a>', 'page.html: no gone.html'),
    ('<a href="other/#bottom">a</a>', 'page.html: no other/#bottom'),
    ('<a href="#there">a</a>', 'page.html: no #there'),
    ('<img src="gone.png">', 'page.html: no gone.png'),
    ('<script src="https://example.com/a.js"></script>',
     'page.html: loads https://example.com/a.js'),
    ('<link rel="stylesheet" href="//fonts.example.com/a.css">',
     'page.html: loads //fonts.example.com/a.css')])
def test_faults_are_listed(tmp_path, body, fault):
    assert CHECK['faults'](site(tmp_path, body)) == [fault]
