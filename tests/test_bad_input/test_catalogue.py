"""The tables of bad input: the requirements on messages, and the arguments that have rows."""
import inspect
import re

import pytest
import test_bad_data
import test_bad_entries
import test_bad_files
import test_bad_numbers
from catalogue import Parts, Row, check_parts, refused

import mmkd
from mmkd.compare.spec import read_entry
from mmkd.core.arguments import finite_number

FILES = test_bad_data, test_bad_entries, test_bad_files, test_bad_numbers
ENTRIES = [mmkd.DISTLoss, mmkd.KDLoss, mmkd.CWDLoss, mmkd.MSELoss, read_entry, mmkd.Distiller,
           mmkd.FrozenTeacher, mmkd.CachedTeacher, mmkd.Committee, mmkd.MeanTeacher,
           mmkd.EarlierSelf, mmkd.Partner, mmkd.DistillHook, mmkd.Replay, mmkd.PackViews]
TAKEN_AS_THEY_ARE = {
    'Distiller.data_preprocessor': 'is built by MMEngine, whose own message names it',
    'PackViews.pack': 'is built by MMEngine, whose own message names it',
    'PackViews.student': 'is built by MMEngine, whose own message names it',
}
"""Arguments for which mmkd accepts every value, with the reason."""


def all_rows():
    return [row for file in FILES for table in vars(file).values() if isinstance(table, list)
            for row in table if isinstance(row, Row)]


def test_row_names_are_unique():
    names = [row.name for row in all_rows()]
    assert len(set(names)) == len(names), sorted(
        {name for name in names if names.count(name) > 1})


def test_patterns_do_not_match_arbitrary_text():
    """A pattern that matches anything would check nothing."""
    for row in all_rows():
        for pattern in row.says or ():
            assert len(re.sub(r'\W', '', pattern)) >= 2 or not pattern.isalpha(), row.name
            assert not re.search(pattern, 'abc 123'), row.name


@pytest.mark.parametrize('kind', ENTRIES, ids=lambda kind: kind.__name__)
def test_each_argument_of_an_entry_has_a_row(kind):
    """Every new argument needs a row with its error message."""
    said = ' '.join(str(row.says[:3]) for row in all_rows() if row.says)
    for name, one in inspect.signature(kind).parameters.items():
        is_named = one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        if is_named and f'{kind.__name__}.{name}' not in TAKEN_AS_THEY_ARE:
            assert re.search(rf'`([\w ]+\.)?{name}\b', said), f'no row for a wrong `{name}`'


WHOLE = '`tau` must be greater than 0, but got -1.0; write a number such as 1.0'
PARTS = Parts('`tau`', 'but got -1.0', 'must be greater than 0', '; write a number')


def test_a_message_must_say_all_four_parts():
    check_parts(WHOLE, PARTS)
    for part, pattern in PARTS._asdict().items():
        with pytest.raises(AssertionError, match=f'the {part} is not told'):
            check_parts(WHOLE.replace(pattern, ''), PARTS)


def test_one_place_does_not_count_for_two_parts():
    with pytest.raises(AssertionError, match='one place stands for two parts'):
        check_parts(WHOLE, PARTS._replace(expected='must .* such as'))


@pytest.mark.parametrize(('says', 'error', 'why'), [
    (Parts('`tau`', "but got 'x'", 'must be a number', '; write'), TypeError, None),
    (Parts('`beta`', "but got 'x'", 'must be a number', '; write'), TypeError, 'the thing'),
    (Parts('`tau`', "but got 'y'", 'must be a number', '; write'), TypeError, 'the found'),
    (Parts('`tau`', "but got 'x'", 'must be a word', '; write'), TypeError, 'the expected'),
    (Parts('`tau`', "but got 'x'", 'must be a number', '; leave'), TypeError, 'the step')])
def test_rows_are_compared_with_what_mmkd_raises(says, error, why):
    def refuse():
        with refused(Row('', None, error, says)):
            finite_number('tau', 'x')  # type: ignore[arg-type]

    if why is None:
        refuse()
    else:
        with pytest.raises(AssertionError, match=why):
            refuse()


@pytest.mark.parametrize(('text', 'why'), [
    ('`tau` is wrong', 'no next step'),
    ('no; write another', 'nothing but a next step'),
    ('`tau` is wrong\nas\nis\nall\nof it; write another', 'all'),
    ('`tau` is wrong; write another ' + 'one ' * 600, 'one one')])
def test_messages_must_be_short_and_end_in_a_step(text, why, monkeypatch):
    """These checks do not need the patterns of a row; the fuzz test uses them alone."""
    import catalogue
    monkeypatch.setattr(catalogue, 'is_ours', lambda error: True)
    with pytest.raises(AssertionError, match=why):
        catalogue.assert_helpful(ValueError(text))


def test_errors_of_other_packages_are_not_ours():
    with pytest.raises(AssertionError, match='invalid literal'), refused(
            Row('', None, ValueError, Parts('int', "'x'", 'literal', 'with'))):
        int('x')
