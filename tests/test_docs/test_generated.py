"""Pages and pictures that scripts write are what the scripts write today."""
import json
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).resolve().parents[2] / 'docs'


def script(path, monkeypatch):
    monkeypatch.syspath_prepend(str((DOCS / path).parent))
    return runpy.run_path(str(DOCS / path))


def test_the_reference_has_all_public_names(monkeypatch):
    made = script('generate_reference.py', monkeypatch)['pages']()
    for page, text in made.items():
        assert (DOCS / 'reference' / f'{page}.md').read_text() == text, (
            f'docs/reference/{page}.md is out of date; run docs/generate_reference.py')
    assert {path.stem for path in (DOCS / 'reference').glob('*.md')} == set(made)


def test_the_table_of_evidence_is_that_of_the_results(monkeypatch):
    made = script('generate_evidence.py', monkeypatch)
    assert made['PAGE'].read_text() == made['page'](), 'run docs/generate_evidence.py'


def test_the_tables_of_few_labels_are_those_of_the_results(monkeypatch):
    made = script('results/few_labels/write.py', monkeypatch)
    assert made['PAGE'].read_text() == made['page'](), 'run docs/results/few_labels/write.py'
    runs = dict(student=[dict(seed=0, AP=20.), dict(seed=1, AP=22.)],
                dist=[dict(seed=1, AP=27.), dict(seed=0, AP=23.)])
    assert made['cell'](runs, 'dist', 'AP') == '25.0 ± 2.8 (+4.0 ± 1.4)'  # gains 5 and 3
    assert made['cell'](runs, 'student', 'AP') == '21.0 ± 1.4'


def test_a_row_of_evidence_is_computed_from_pairs_of_seeds(monkeypatch, tmp_path):
    """By hand: gains 4, 2, 6; deviations 1 and 1; 4 of 8 points to the teacher."""
    made = script('generate_evidence.py', monkeypatch)
    (tmp_path / 'page').mkdir()
    (tmp_path / 'page' / 'results.json').write_text(json.dumps(dict(
        teacher=[dict(seed=0, AP=28.)],
        student=[dict(seed=seed, AP=score) for seed, score in ((0, 20.), (1, 21.), (2, 19.))],
        dist=[dict(seed=seed, AP=score) for seed, score in ((2, 25.), (0, 24.), (1, 23.))],
        kd=[dict(seed=0, AP=40.)])))
    monkeypatch.setitem(made['line_of'].__globals__, 'RESULTS', tmp_path)
    line = made['line_of'](made['Row']('title', 'page', 'dist'))
    assert line == ['[title](page)', '28.0', '20.0 ± 1.0', '40.0 (1 seed)', '24.0 ± 1.0',
                    '**+4.0 ± 2.0**<br>4.0 spreads', '50%', '–', '–', 'dist']


@pytest.mark.parametrize('name', ['batch', 'dist', 'crosskd'])
def test_pictures_are_drawn_by_the_script(monkeypatch, name):
    made = script('pictures/draw.py', monkeypatch)
    text = made['PICTURES'][name]().svg()
    assert (DOCS / 'images' / f'{name}.svg').read_text() == text, 'run docs/pictures/draw.py'
    root = ElementTree.fromstring(text)
    width, height = (float(root.get(side)) for side in ('width', 'height'))
    for one in root.iter():
        x, y = (float(one.get(side) or 0) for side in ('x', 'y'))
        assert 0 <= x <= width, one.attrib
        assert 0 <= y <= height, one.attrib
        assert x + float(one.get('width') or 0) <= width, one.attrib
        assert y + float(one.get('height') or 0) <= height, one.attrib


def test_the_correlations_in_the_picture_of_dist_are_those_of_its_cells(monkeypatch):
    """Read from the drawing: the opacity of the cells is the probability."""
    root = ElementTree.fromstring((DOCS / 'images' / 'dist.svg').read_text())
    shares = np.array([float(one.get('fill-opacity')) for one in root.iter()
                       if one.get('fill-opacity')]).reshape(2, 6, 5)
    shown = [one.text for one in root.iter() if one.text and one.text.startswith('ρ =')]
    row = np.corrcoef(shares[0, 1], shares[1, 1])[0, 1]
    column = np.corrcoef(shares[0, :, 3], shares[1, :, 3])[0, 1]
    assert shown == [f'ρ = {row:.2f}', f'ρ = {column:.2f}']


def test_rows_are_cut_out_of_a_sheet(monkeypatch):
    made = script('pictures/rows.py', monkeypatch)
    sheet = np.full((400, 60, 3), 255, np.uint8)
    sheet[5:15] = 0  # letters
    for number, top in enumerate((20, 120, 220)):
        sheet[top:top + 90] = 50 * number
    assert made['stripes'](sheet) == [(20, 110), (120, 210), (220, 310)]
    from PIL import Image
    cut = np.asarray(made['cut'](Image.fromarray(sheet), [3]))
    assert cut.shape == (20 + 90 + 10, 60, 3)
    assert (cut[20:110] == 100).all()
