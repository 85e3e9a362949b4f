"""Classes are matched by name."""
import pytest

from mmkd.classes import classes_of_checkpoint, match_classes


def test_equal_lists_need_no_map():
    assert match_classes(['a', 'b'], ('a', 'b')) is None


def test_order_and_superset():
    assert match_classes(['a', 'b'], ['b', 'c', 'a']) == [2, 0]


def test_missing_class_is_named_with_both_lists():
    with pytest.raises(ValueError, match=r"classes: c; the student has \['a', 'c'\], the teacher "
                       r"\['a', 'b'\]"):
        match_classes(['a', 'c'], ['a', 'b'])


def test_a_name_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match=r"the teacher has classes of one name, a: \['a', 'a'\]"):
        match_classes(['a'], ['a', 'a'])


@pytest.mark.parametrize('meta', [
    dict(dataset_meta=dict(classes=('a', 'b'))), dict(dataset_meta=dict(CLASSES=('a', 'b'))),
    dict(CLASSES=('a', 'b'))])
def test_every_generation_of_checkpoints_is_read(meta):
    assert classes_of_checkpoint(dict(meta=meta)) == ['a', 'b']


def test_one_class_written_as_a_string():
    assert classes_of_checkpoint(dict(meta=dict(CLASSES='cell'))) == ['cell']
    assert classes_of_checkpoint(dict(meta={})) is None
