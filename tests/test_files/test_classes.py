"""Classes of student and teacher are matched by name."""
from types import SimpleNamespace

import pytest
import torch
from conftest import (
    CLASSES,
    build,
    detector_config,
    distiller,
    observe,
    retinanet,
    save_teacher,
    segmentor,
    train,
)

import mmkd.compare.term
import mmkd.compare.unknown_names
from mmkd.compare.classes import match_classes
from mmkd.core.names import joined, shown_names
from mmkd.files.classes import classes_of_checkpoint, classes_of_run, stated_classes


def test_equal_lists_need_no_map():
    assert match_classes(['a', 'b'], ('a', 'b')) is None


def test_order_and_superset():
    assert match_classes(['a', 'b'], ['b', 'c', 'a']) == [2, 0]


def test_missing_class_is_named_with_both_lists():
    with pytest.raises(ValueError, match=r"classes: c; the student has \['a', 'c'\], the teacher "
                       r"\['a', 'b'\]"):
        match_classes(['a', 'c'], ['a', 'b'])


def test_duplicate_names_are_refused():
    with pytest.raises(ValueError, match=r"the teacher has several classes of the same name, a: "
                                         r"\['a', 'a'\]"):
        match_classes(['a'], ['a', 'a'])


@pytest.mark.parametrize('meta', [
    dict(dataset_meta=dict(classes=('a', 'b'))), dict(dataset_meta=dict(CLASSES=('a', 'b'))),
    dict(CLASSES=('a', 'b'))])
def test_class_names_of_older_checkpoints_are_read(meta):
    assert classes_of_checkpoint(dict(meta=meta)) == ['a', 'b']


def test_one_class_written_as_a_string():
    assert classes_of_checkpoint(dict(meta=dict(CLASSES='cell'))) == ['cell']
    assert classes_of_checkpoint(dict(meta={})) is None


# --- thousands of names ---------------------------------------------------------------------------


def test_long_lists_are_truncated_in_messages():
    assert shown_names(['a', 'b']) == "['a', 'b']"
    assert shown_names(None) == 'unknown'
    assert shown_names(range(10)) == '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]'
    assert shown_names(range(11)) == '[0, 1, 2, 3, 4, 5, 6, 7] and 3 more'
    assert joined('abc') == 'a, b, c'
    assert joined(range(1203), 3) == '0, 1, 2 and 1200 more'


@pytest.mark.parametrize(('student', 'teacher'), [
    (range(1203), range(600)), (range(1203), [*range(1202), 1]), ([*range(1202), 1], range(1203))])
def test_messages_about_a_thousand_classes_are_short(student, teacher):
    sides = [[f'class number {i}' for i in side] for side in (student, teacher)]
    with pytest.raises(ValueError, match='class number') as info:
        match_classes(*sides)
    assert len(str(info.value)) < 900


def test_matching_thousands_of_classes_takes_no_time():
    names = [str(i) for i in range(20000)]
    assert match_classes(names, names[::-1])[:2] == [19999, 19998]


# --- names in the config --------------------------------------------------------------------------


@pytest.mark.parametrize(('classes', 'error', 'message'), [
    (dict(car='vehicle'), TypeError, "`teacher.classes` must be the list of"),
    ('car', TypeError, "must be a list of class names.*got 'car'"),
    (3, TypeError, 'must be a list of class names.*got 3'),
    (['car', 3], TypeError, 'must be a list of class names'),
    (['car', ''], TypeError, 'must be a list of class names'),
    ([], ValueError, '`teacher.classes` is empty'),
    (['car', 'bus', 'car'], ValueError, 'has a name twice, car: '),
])
def test_stated_classes_are_a_list_of_names(classes, error, message):
    with pytest.raises(error, match=message):
        stated_classes(classes, 'teacher.classes')


def test_stated_classes_are_not_changed():
    assert stated_classes(None, 'classes') is None
    assert stated_classes(('b', 'a'), 'classes') == ['b', 'a']


def prepared(monkeypatch, model):
    """Return an initialised Distiller and its warnings about class names."""
    said = []
    monkeypatch.setattr(mmkd.compare.unknown_names, 'warn', said.append)
    torch.manual_seed(0)
    model = build(model)
    model.init_weights()
    return model, [text for text in said if 'The class names' in text]


@pytest.mark.parametrize(('student', 'teacher', 'in_file', 'unknown'), [
    (None, None, (), ['the student', '`teacher`']),
    (CLASSES, None, (), ['`teacher`']),
    (None, CLASSES, (), ['the student']),
    (None, None, CLASSES, ['the student']),
    (CLASSES, CLASSES, (), []),
    (CLASSES, None, CLASSES, []),
])
def test_one_warning_where_names_are_unknown(tmp_path, monkeypatch, student, teacher, in_file,
                                             unknown):
    entry = dict(save_teacher(tmp_path / 't.pth', retinanet(width=12), in_file), classes=teacher)
    model, said = prepared(monkeypatch, dict(distiller(
        retinanet(), entry, dict(type='mmkd.KDLoss', on='cls'),
        dict(type='mmkd.DISTLoss', on='cls')), classes=student))
    assert len(said) == bool(unknown)
    for text in said:
        assert f'The class names of {", ".join(unknown)} are not known' in text
        assert 'loss_cls_kd, loss_cls_dist' in text
        assert ('`teacher=dict(classes=[...])`' in text) is ('`teacher`' in unknown)
        assert ('in the mmkd.Distiller`' in text) is ('the student' in unknown)
    assert ('by their order' in str(model.terms[0])) is bool(unknown)


@pytest.mark.parametrize(('teacher', 'entry'), [
    (dict(type='mmkd.MeanTeacher'), dict(type='mmkd.KDLoss', on='cls')),
    (dict(type='mmkd.EarlierSelf'), dict(type='mmkd.KDLoss', on='cls')),
    (None, dict(type='mmkd.MSELoss', on='neck')),
    (None, dict(type='mmkd.MSELoss', on='reg')),
])
def test_no_warning_where_no_names_are_needed(tmp_path, monkeypatch, teacher, entry):
    """A teacher made from the student has the same columns, and features have no columns."""
    teacher = teacher or save_teacher(tmp_path / 't.pth', retinanet(width=12), ())
    assert prepared(monkeypatch, distiller(retinanet(), teacher, entry))[1] == []


def test_stated_names_come_before_those_in_the_checkpoint(tmp_path, monkeypatch):
    entry = save_teacher(tmp_path / 't.pth', retinanet(width=12))  # disc, square, cross
    names = ['cross', 'disc', 'square']
    model, _ = prepared(monkeypatch, dict(distiller(
        retinanet(), dict(entry, classes=names), dict(type='mmkd.KDLoss', on='cls')),
        classes=CLASSES))
    inputs = torch.randn(1, 3, 64, 64)
    _, told = model.terms[0].levels(*observe(model, inputs))
    network = model.teacher.model
    with torch.no_grad():
        raw = network.bbox_head(network.extract_feat(inputs))[0][0].unflatten(1, (9, 3))
    torch.testing.assert_close(told[0].unflatten(1, (9, 3)), raw[:, :, [1, 2, 0]])


def test_members_and_the_hook_take_classes_too(shapes, tmp_path, monkeypatch):
    entry = save_teacher(tmp_path / 't.pth', retinanet(width=12), ())
    names = ['cross', 'disc', 'square']
    committee = dict(type='mmkd.Committee', members=[dict(entry, classes=names), dict(
        entry, classes=list(CLASSES))])
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'), custom_hooks=[
        dict(type='mmkd.DistillHook', teacher=committee, classes=list(CLASSES),
             distill=[dict(type='mmkd.KDLoss', on='cls')])])
    orders = []
    find = mmkd.compare.term.Term.align

    def watched(self, *args, **settings):
        find(self, *args, **settings)
        columns = self.alignment.columns
        orders.append(columns and columns.order)

    monkeypatch.setattr(mmkd.compare.term.Term, 'align', watched)
    train(config)
    assert orders == [[1, 2, 0], None]


def test_stated_names_for_another_number_of_columns_are_refused(tmp_path, monkeypatch):
    entry = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    for changes, side in ((dict(teacher=dict(entry, classes=['disc', 'square'])), 'teacher'),
                          (dict(classes=['disc', 'square']), 'student')):
        with pytest.raises(ValueError, match=f"the {side}'s head has columns for 3 classes, but "
                           'its `classes` name 2'):
            prepared(monkeypatch, dict(distiller(retinanet(), entry), **changes))


@pytest.mark.parametrize(('metainfo', 'expected'), [
    ([dict(classes=('a', 'b'), palette=[1, 2]), dict(classes=('a', 'b'))], ['a', 'b']),
    ([dict(), dict(classes=('a', 'b'))], ['a', 'b']),
    ([dict(), None], None),
    (dict(classes=('a', )), ['a']),
    (None, None)])
def test_names_of_a_concatenation_whose_parts_differ(monkeypatch, metainfo, expected):
    """If the parts differ, the `metainfo` of mmdet's ConcatDataset is a list."""
    monkeypatch.setattr('mmkd.files.classes.training_set',
                        lambda: SimpleNamespace(metainfo=metainfo))
    assert classes_of_run() == expected


def test_teacher_made_from_the_student_needs_no_names():
    """A head with two columns and one named class, as binary segmentors can have."""
    model = build(dict(distiller(segmentor(classes=2), dict(type='mmkd.MeanTeacher'),
                                 dict(type='mmkd.KDLoss', on='cls')), classes=['crack']), 'mmseg')
    model.prepare()
    assert model.terms[0].alignment.columns is None
