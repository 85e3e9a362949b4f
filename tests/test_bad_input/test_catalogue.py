"""The catalogue as a whole: how many there are, and that no two are one."""
import test_bad_data
import test_bad_entries
import test_bad_files
import test_bad_numbers
from catalogue import Row

FILES = test_bad_data, test_bad_entries, test_bad_files, test_bad_numbers


def all_rows():
    return [row for file in FILES for table in vars(file).values() if isinstance(table, list)
            for row in table if isinstance(row, Row)]


def test_there_are_enough_and_each_has_a_name_of_its_own():
    names = [row.name for row in all_rows()]
    assert len(names) >= 200
    assert len(set(names)) == len(names), sorted(
        {name for name in names if names.count(name) > 1})


def test_every_error_says_something():
    for row in all_rows():
        assert row.error is None or len(row.says) >= 5, row.name
