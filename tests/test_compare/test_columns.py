"""The teacher's columns are converted to the meaning of the student's columns."""
import copy
from dataclasses import replace

import pytest
import torch
from conftest import build, distiller, observe, retinanet, save_teacher, segmentor, two_stage

import mmkd.compare.alignment
from mmkd import KDLoss
from mmkd.compare.columns import Columns, Kind, check_names, columns_between, is_binary_pair
from mmkd.compare.vocabulary import Batch

KD = dict(type='mmkd.KDLoss', on='cls')
ONE = dict(out_channels=1, threshold=0.5,
           loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
CELL = ('background', 'cell')


def softmax(**arguments):
    return retinanet(loss_cls=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=False),
                     **arguments)


def prepared(student, teacher, classes, *entries, scope='mmdet', **arguments):
    torch.manual_seed(3)
    model = build(dict(distiller(student, teacher, *(entries or (KD, ))),
                       classes=classes and list(classes), **arguments), scope)
    model.init_weights()
    return model.eval()


def binary(is_one, classes=2, width=8):
    return segmentor(width=width, classes=classes, **(ONE if is_one else {}))


def raw(model, inputs):
    network = model.teacher.model
    with torch.no_grad():
        return network.decode_head(network.extract_feat(inputs))


@pytest.mark.parametrize('tau', [1., 3.])
@pytest.mark.parametrize('names', [CELL, CELL[::-1], None])
def test_two_softmax_columns_become_one_logit(tmp_path, names, tau):
    """The single output of a head in mmseg is the logit of the second class."""
    teacher = save_teacher(tmp_path / 't.pth', binary(False), names or (), scope='mmseg')
    model = prepared(binary(True), teacher, CELL, dict(KD, tau=tau), scope='mmseg')
    inputs = torch.randn(2, 3, 64, 64)
    _, (told, ) = model.terms[0].levels(*observe(model, inputs))
    column = 1 if names is None else names.index('cell')
    expected = (raw(model, inputs) / tau).softmax(1)[:, column:column + 1]
    torch.testing.assert_close((told / tau).sigmoid(), expected)
    assert 'compared as one logit' in str(model.terms[0])


@pytest.mark.parametrize('names', [CELL, CELL[::-1], None])
def test_one_logit_becomes_two_softmax_columns(tmp_path, names):
    teacher = save_teacher(tmp_path / 't.pth', binary(True), names or (), scope='mmseg')
    model = prepared(binary(False), teacher, CELL, scope='mmseg')
    inputs = torch.randn(2, 3, 64, 64)
    (own, ), (told, ) = model.terms[0].levels(*observe(model, inputs))
    yes = raw(model, inputs).sigmoid()
    # The teacher's single output is the logit of its second class.
    cell = yes if (names or CELL)[1] == 'cell' else 1 - yes
    torch.testing.assert_close(told.softmax(1), torch.cat([1 - cell, cell], 1))
    assert own.shape == told.shape
    # The KL divergence of a softmax over two classes is that of a Bernoulli variable.
    s, t = own.softmax(1).double()[:, 1], cell.double()[:, 0]
    by_hand = (t * (t / s).log() + (1 - t) * ((1 - t) / (1 - s)).log()).mean()
    torch.testing.assert_close(KDLoss()(own, told).double(), by_hand, rtol=1e-4, atol=1e-8)


def test_one_logit_of_the_other_class_changes_its_sign(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', binary(True), CELL[::-1], scope='mmseg')
    model = prepared(binary(True), teacher, CELL, scope='mmseg')
    inputs = torch.randn(1, 3, 64, 64)
    _, (told, ) = model.terms[0].levels(*observe(model, inputs))
    torch.testing.assert_close(told.sigmoid(), 1 - raw(model, inputs).sigmoid())


@pytest.mark.parametrize(('student', 'teacher'), [(['cell'], CELL), (['cell'], CELL[::-1])])
def test_segmentor_of_one_named_class(tmp_path, student, teacher):
    entry = save_teacher(tmp_path / 't.pth', binary(False), teacher, scope='mmseg')
    model = prepared(binary(True, classes=1), entry, student, scope='mmseg')
    inputs = torch.randn(1, 3, 64, 64)
    _, (told, ) = model.terms[0].levels(*observe(model, inputs))
    column = teacher.index('cell')
    torch.testing.assert_close(told.sigmoid(),
                               raw(model, inputs).softmax(1)[:, column:column + 1])


def test_use_sigmoid_applies_to_both_columns(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', binary(True), CELL, scope='mmseg')
    model = prepared(binary(False), teacher, CELL, dict(KD, use_sigmoid=True), scope='mmseg')
    inputs = torch.randn(1, 3, 64, 64)
    _, (told, ) = model.terms[0].levels(*observe(model, inputs))
    yes = raw(model, inputs).sigmoid()
    torch.testing.assert_close(told.sigmoid(), torch.cat([1 - yes, yes], 1))


@pytest.mark.parametrize('is_student_one', [True, False])
def test_dense_heads_of_one_class(tmp_path, is_student_one):
    """In mmdet the class comes first and the background last, for every anchor."""
    kinds = [retinanet(classes=1), softmax(classes=1)]
    student, other = kinds if is_student_one else kinds[::-1]
    teacher = save_teacher(tmp_path / 't.pth', other, ('disc', ))
    model = prepared(student, teacher, ('disc', ))
    inputs = torch.randn(2, 3, 64, 64)
    own, told = model.terms[0].levels(*observe(model, inputs))
    network = model.teacher.model
    with torch.no_grad():
        levels = network.bbox_head(network.extract_feat(inputs))[0]
    for mine, got, level in zip(own, told, levels):
        assert mine.shape == got.shape
        if is_student_one:  # (N, 9, H, W)
            expected = level.unflatten(1, (9, 2)).softmax(2)[:, :, 0]
            torch.testing.assert_close(got.sigmoid(), expected)
        else:  # (N·9, 2, H, W)
            yes = level.sigmoid().flatten(0, 1).unsqueeze(1)
            torch.testing.assert_close(got.softmax(1), torch.cat([yes, 1 - yes], 1))
    losses = KDLoss(use_sigmoid=is_student_one)(own, told)
    assert all(loss > 0 for loss in losses)


@pytest.mark.parametrize('is_student_one', [True, False])
def test_region_proposal_heads_with_two_activations(tmp_path, is_student_one):
    def of_rpn(use_sigmoid):
        model = two_stage()
        model['rpn_head']['loss_cls']['use_sigmoid'] = use_sigmoid
        return model

    teacher = save_teacher(tmp_path / 't.pth', of_rpn(not is_student_one))
    model = prepared(of_rpn(is_student_one), teacher, None, dict(KD, on='rpn_cls'))
    inputs = torch.randn(1, 3, 64, 64)
    own, told = model.terms[0].levels(*observe(model, inputs))
    network = model.teacher.model
    with torch.no_grad():
        level = network.rpn_head(network.extract_feat(inputs))[0][0]
    if is_student_one:
        expected = level.unflatten(1, (3, 2)).softmax(2)[:, :, 0]
        torch.testing.assert_close(told[0].sigmoid(), expected)
    else:
        yes = level.sigmoid().flatten(0, 1).unsqueeze(1)
        torch.testing.assert_close(told[0].softmax(1), torch.cat([yes, 1 - yes], 1))
    assert own[0].shape == told[0].shape


def test_softmax_of_more_classes_stays_refused(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', softmax())
    with pytest.raises(ValueError, match="by sigmoid.*by softmax.*compare 'neck' or 'backbone'"):
        prepared(retinanet(), teacher, None)
    # `use_sigmoid` does not help: no student column corresponds to the background.
    with pytest.raises(ValueError, match="by sigmoid.*by softmax.*compare 'neck' or 'backbone'"):
        prepared(retinanet(), teacher, None, dict(KD, use_sigmoid=True))


def test_use_sigmoid_false_compares_anchors_separately(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    model = prepared(retinanet(), teacher, None, dict(KD, use_sigmoid=False))
    own, told = model.terms[0].levels(*observe(model, torch.randn(2, 3, 64, 64)))
    # softmax over classes, not over anchors
    assert own[0].shape == told[0].shape == (2 * 9, 3, 8, 8)


def test_different_activations_require_use_sigmoid(tmp_path, monkeypatch):
    """Every column has a counterpart on the other side, as can be the case for a user's own head.
    """
    find = mmkd.compare.alignment.find_point

    def found(model, name, side):
        point = find(model, name, side)
        return replace(point, use_sigmoid=False) if side == 'teacher' else point

    monkeypatch.setattr(mmkd.compare.alignment, 'find_point', found)
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    with pytest.raises(ValueError, match='by sigmoid.*by softmax.*write `use_sigmoid=True` or '):
        prepared(retinanet(), teacher, None)
    model = prepared(retinanet(), teacher, None, dict(KD, use_sigmoid=True))
    assert model.terms[0].loss.use_sigmoid is True


def kind(columns, named, use_sigmoid):
    return Kind(columns, named, use_sigmoid)


def test_pairs_that_are_not_binary():
    one, two = kind(1, 2, True), kind(2, 2, False)
    assert is_binary_pair(one, two)
    assert is_binary_pair(two, one)
    assert not is_binary_pair(one, one)
    assert not is_binary_pair(two, two)
    assert not is_binary_pair(one, kind(2, 2, True))
    assert not is_binary_pair(kind(1, 0, True), two)  # objectness and a class


def test_columns_are_reordered_by_name():
    found = columns_between(kind(3, 2, False), kind(4, 3, False), ['b', 'a'], ['a', 'x', 'b'])
    assert found.order == [2, 0, 3]  # the column of the background stays last
    level = torch.randn(2, 8, 5)
    assert torch.equal(found.of(level, 4),
                       level.view(2, 2, 4, 5)[:, :, [2, 0, 3]].reshape(2, 6, 5))
    assert columns_between(kind(2, 2, False), kind(2, 2, False), ['a', 'b'], ['a', 'b']) is None
    assert columns_between(kind(2, 2, False), kind(2, 2, False), None, ['a', 'b']) is None


def test_differences_are_not_taken_in_half_precision():
    columns = Columns((((1, 1.), (0, -1.)), ))
    level = torch.tensor([[1000., 1000.25]], dtype=torch.bfloat16).unsqueeze(-1)
    assert columns.of(level, 2).dtype == torch.float32
    assert torch.equal(columns.of(level, 2), (level[:, 1:].float() - level[:, :1].float()))


def test_names_and_columns_of_a_side_must_agree():
    names = [f'class {i}' for i in range(1000)]
    with pytest.raises(ValueError, match="the student's head has columns for 3 classes, but the "
                       r"training data names 1000: \['class 0'.* and 992 more; set "
                       '`num_classes` of the head') as info:
        check_names(kind(3, 3, True), names, 'student', False)
    assert len(str(info.value)) < 500
    with pytest.raises(ValueError, match='but its `classes` name 2: .*write one name for each'):
        check_names(kind(3, 3, True), ['a', 'b'], 'teacher', True)
    check_names(kind(3, 3, True), None, 'teacher', False)
    check_names(kind(1, 0, True), names, 'teacher', False)


def test_binary_sides_of_other_classes_are_refused():
    one, two = kind(1, 2, True), kind(2, 2, False)
    for sides in ((one, two), (two, one), (one, one), (two, two)):
        with pytest.raises(ValueError, match='lacks 1 of the student\'s classes: cell'):
            columns_between(*sides, list(CELL), ['background', 'nucleus'])
    with pytest.raises(ValueError, match='classes: cell'):
        columns_between(kind(1, 1, True), kind(2, 1, False), ['cell'], ['nucleus'])


def test_mean_of_a_committee_of_both_kinds(tmp_path):
    members = [save_teacher(tmp_path / f'{i}.pth', binary(is_one), CELL, seed=i, scope='mmseg')
               for i, is_one in enumerate((True, False))]
    teacher = dict(type='mmkd.Committee', members=copy.deepcopy(members))
    model = prepared(binary(False), teacher, CELL, scope='mmseg')
    match, = model.terms
    inputs = torch.randn(1, 3, 64, 64)
    seen = {'student': model.distillation.probe.predicted('student', inputs)}
    told = model.distillation.ask(seen, inputs, None, match.parts)
    from mmkd.training.questions import told_to
    (loss, ), = match.compare(seen['student'], [told_to(part, told) for part in match.parts],
                              model.student, Batch(inputs, None)).values()
    with torch.no_grad():
        one, two = (network.decode_head(network.extract_feat(inputs)) for network in (
            model.distillation.networks[f'teacher.{i}'].model for i in range(2)))
        own = model.student.decode_head(model.student.extract_feat(inputs)).softmax(1)
    mean = (torch.cat([1 - one.sigmoid(), one.sigmoid()], 1) + two.softmax(1)) / 2
    torch.testing.assert_close(loss, (mean * (mean / own).log()).sum(1).mean(),
                               rtol=1e-3, atol=1e-7)
