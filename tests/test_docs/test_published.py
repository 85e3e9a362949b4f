"""The published figures in docs/choose.md are those of the cards of the methods."""
import re
from pathlib import Path

import pytest

from mmkd.losses import METHODS
from mmkd.losses.card import card_of

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'choose.md'
ROWS = re.findall(r'^\| `(\w+)` \| ([\d.]*) \| ?([\d.]*) ?\| \w', PAGE.read_text(), re.M)
ALONE = '74.21', '72.55'


@pytest.mark.parametrize('row', ROWS, ids=[row[0] for row in ROWS])
def test_a_figure_is_that_of_the_card(row):
    card = card_of(METHODS[row[0]]).fields['Published']
    for alone, figure in zip(ALONE, row[1:]):
        if figure:
            assert re.search(rf'{alone} -> {figure}\b', card), (figure, card)


def test_the_best_is_first():
    assert len(ROWS) == 11
    figures = [float(row[1]) for row in ROWS]
    assert figures == sorted(figures, reverse=True)
