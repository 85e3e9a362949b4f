"""Mappings from the teacher's classes to the student's, compared with loops."""
import json
import math

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
    step,
    train,
    two_stage,
)

from mmkd.compare.classes import match_classes, partners_of
from mmkd.compare.columns import columns_between
from mmkd.compare.kind import Kind
from mmkd.compare.merging import any_of, merged
from mmkd.files.classes import ClassMapping, stated_mapping

KD = dict(type='mmkd.KDLoss', on='cls')
STREETS = ('road', 'car', 'truck', 'person', 'sky')
SHAPES = dict(disc='ball', square=['box', 'crate'], cross=None)
OTHERS = ('crate', 'dog', 'ball', 'box')


def mapping_of(**classes):
    return stated_mapping(classes, 'teacher.classes')[1]


# --- sums of probabilities ------------------------------------------------------------------------


def test_softmax_adds_up_exactly():
    torch.manual_seed(0)
    logits = torch.randn(7, 5, dtype=torch.float64) * 6
    got = merged(logits, [(3, ), (0, 4), (1, 2)], 1, False).softmax(1)
    for row, found in zip(logits.tolist(), got.tolist()):
        total = sum(math.exp(one) for one in row)
        p = [math.exp(one) / total for one in row]
        assert found == pytest.approx([p[3], p[0] + p[4], p[1] + p[2]], rel=1e-12)


def test_sigmoid_is_the_probability_of_any():
    torch.manual_seed(0)
    logits = torch.randn(50, 4, dtype=torch.float64) * 6
    got = merged(logits, [(1, ), (0, 2, 3)], 1, True).sigmoid()
    for row, found in zip(logits.tolist(), got.tolist()):
        none = 1.
        for k in (0, 2, 3):
            none *= 1 - 1 / (1 + math.exp(-row[k]))
        assert found[0] == pytest.approx(1 / (1 + math.exp(-row[1])), rel=1e-12)
        assert found[1] == pytest.approx(1 - none, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize('value', [-1e4, -300., -41., -39., 0., 39., 300., 1e4])
def test_any_of_is_finite_with_a_finite_gradient(value):
    logits = torch.full((3, ), value, requires_grad=True)
    found = any_of(logits, 0)
    found.backward()
    assert found.isfinite()
    assert logits.grad.isfinite().all()
    # Three small probabilities add up; for large logits, the probabilities of "none" multiply.
    expected = value + math.log(3) if value < -10 else 3 * value if value > 10 else math.log(7)
    assert found.item() == pytest.approx(expected, rel=1e-5)


# --- names ----------------------------------------------------------------------------------------


def test_one_to_one_many_to_one_and_none():
    mapping = mapping_of(vehicle=['truck', 'car'], rider=None, walker='person')
    found = partners_of(['rider', 'walker', 'sky', 'vehicle'], STREETS, mapping)
    assert found.groups == ((), (3, ), (4, ), (2, 1))
    assert match_classes(['rider', 'sky', 'vehicle'], STREETS, mapping_of(
        vehicle=['truck', 'car'], rider=None)) == [(), 4, (2, 1)]


def test_names_that_differ_in_spelling_match_with_a_note():
    found = partners_of(['traffic_light', 'Stop-Sign'], ['stop sign', 'traffic light'])
    assert found.groups == ((1, ), (0, ))
    assert found.notes == (
        "'traffic_light' is matched with 'traffic light', which differs in spelling only",
        "'Stop-Sign' is matched with 'stop sign', which differs in spelling only")
    # exact matches come first
    assert partners_of(['car', 'Car'], ['Car', 'car']).groups == ((1, ), (0, ))
    with pytest.raises(ValueError, match='classes: CAR;'):
        partners_of(['CAR'], ['Car', 'car'])  # ambiguous


@pytest.mark.parametrize(('classes', 'message'), [
    (dict(wolf='dog'), "names 'wolf', but the student has no such class; its classes are"),
    (dict(disk='ball'), r"names 'disk' \(closest: 'disc'\), but the student has no such class"),
    (dict(disc='bal'), r"names 'bal' \(closest: 'ball'\), but the teacher has no such class; its "
     r"classes are \['crate', 'dog', 'ball', 'box'\]; correct the name"),
    (dict(disc='ball', square='ball', cross=None), "'ball' of the teacher would teach both 'disc' "
     "and 'square' of the student; map it to one"),
    (dict(disc='ball'), 'classes: square, cross, and `classes` of the teacher does not list them; '
                        '.* add them, with None for a class without a teacher class, such as '
                        "{'square':"),
    (dict(wolf='dog', disc=['bal', 'box'], square='zebra'),
     r"^`classes` of the teacher names 'wolf', but the student has no such class; its classes are "
     r"\['disc', 'square', 'cross'\]; it also names 'bal' \(closest: 'ball'\), 'zebra', but the "
     r"teacher has no such class; its classes are .*; correct the names$"),
    (dict(disc=None, square=None, cross=None), 'maps every class of the student to None')])
def test_mistakes_in_a_mapping(classes, message):
    with pytest.raises(ValueError, match=message):
        partners_of(CLASSES, OTHERS, mapping_of(**classes))


def test_message_without_a_mapping_proposes_one():
    with pytest.raises(ValueError, match="lacks 3 .*`teacher=dict\\(classes={'car': 'cat', "
                       "'RBC': None, 'WBC': None}\\)`"):
        partners_of(['car', 'RBC', 'WBC'], ['person', 'cat', 'zebra'])
    with pytest.raises(ValueError, match="classes={'RBC': 'person', 'WBC': None}"):
        partners_of(['RBC', 'WBC'], ['person', 'bicycle'])


def test_lists_and_mappings_in_files(tmp_path):
    mapping = ClassMapping((('a', ('x', 'y')), ('b', ())))
    for name, text in (('m.json', '{"a": ["x", "y"], "b": null}'), ('m.yaml', 'a: [x, y]\nb:\n'),
                       ('m.py', "classes = dict(a=['x', 'y'], b=None)\n")):
        (tmp_path / name).write_text(text)
        path = str(tmp_path / name)
        assert stated_mapping(path, 'c') == (None, mapping._replace(file=path))
    (tmp_path / 'list.json').write_text('["x", "y"]')
    assert stated_mapping(str(tmp_path / 'list.json'), 'c') == (['x', 'y'], None)


@pytest.mark.parametrize(('text', 'error', 'message'), [
    (None, FileNotFoundError, '`teacher.classes`: no file at `.*m.json` .looked from'),
    ('{"a": ', ValueError, 'm.json` cannot be read: JSONDecodeError.*; write a mapping'),
    ('3', TypeError, 'm.json` must contain a mapping or a list of classes, but contains int; '
                     'write'),
    ('{"a": 3}', TypeError, "or None, but got 'a': 3; write for instance"),
    ('{"a": ["x", "x"]}', ValueError, "contains x twice for 'a'"),
    ('{}', ValueError, 'is empty')])
def test_files_without_a_mapping(tmp_path, text, error, message):
    if text is not None:
        (tmp_path / 'm.json').write_text(text)
    with pytest.raises(error, match=message):
        stated_mapping(str(tmp_path / 'm.json'), 'teacher.classes')


@pytest.mark.parametrize(('name', 'text', 'error', 'message'), [
    ('m.json', '{"car": "bus", "vehicle": "bus", "vehicle": "truck"}', ValueError,
     "m.json` names 'vehicle' twice, and only the last would count; write each class of the "
     'student once, with a list'),
    ('m.json', '{"classes": {"a": "x", "a": null}}', ValueError, "names 'a' twice"),
    ('m.yaml', 'car: bus\nvehicle: bus\nvehicle: truck\n', ValueError, "names 'vehicle' twice"),
    ('m.yml', 'classes:\n  a: x\n  b: y\n  a:\n', ValueError, "names 'a' twice"),
    ('m.py', "classes = {'a': 'x', 'b': None, 'a': 'y'}\n", ValueError, "names 'a' twice"),
    ('m.py', "classes: dict = {'a': 'x', 'a': 'y'}\n", ValueError, "names 'a' twice"),
    ('m.json', '\ufeff{"a": "x", "a": "y"}', ValueError, "names 'a' twice"),
    ('m.py', "mapping = dict(a='x')\n", ValueError, r'm.py` has no variable `classes`; write a '
     r'mapping of classes in it, such as classes = dict\(RBC='),
    ('m.py', 'classes = dict(', ValueError, r'm.py` cannot be read: SyntaxError.*classes = dict')])
def test_mistakes_in_files_are_named(tmp_path, name, text, error, message):
    """A class twice has had the last value, without a word."""
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        stated_mapping(str(tmp_path / name), 'teacher.classes')


def test_the_same_name_in_two_mappings_of_a_file_is_no_mistake(tmp_path):
    (tmp_path / 'm.py').write_text(
        "other = {'a': 1, 'a': 2}\nclasses = {'a': ['x'], 'b': ['x']}\n")
    assert dict(stated_mapping(str(tmp_path / 'm.py'), 'c')[1].entries) == dict(
        a=('x', ), b=('x', ))
    (tmp_path / 'm.yaml').write_text('name: {a: 1}\nclasses: {a: x, b: x}\n')
    assert dict(stated_mapping(str(tmp_path / 'm.yaml'), 'c')[1].entries) == dict(
        a=('x', ), b=('x', ))


@pytest.mark.parametrize('classes', ['map.txt', 'car', 3])
def test_what_is_no_mapping_is_told_all_forms(classes):
    with pytest.raises(TypeError, match=r'`teacher.classes` must be a list of class names in the '
                       r"order of the columns, a mapping from the student's classes, or a .json, "
                       rf".yaml, .yml, .py file with one of these, but got {classes!r}; write"):
        stated_mapping(classes, 'teacher.classes')


# --- all kinds of columns -------------------------------------------------------------------------


def mapped(student, teacher, own, other, **classes):
    return columns_between(student, teacher, own, other, mapping=mapping_of(**classes))


def test_softmax_with_background():
    """The student has a, b, c and background, and c has no teacher. Other columns are background.
    """
    columns = mapped(Kind(4, 3, False), Kind(6, 5, False), ['a', 'b', 'c'], STREETS,
                     a='sky', b=['car', 'truck'], c=None)
    torch.manual_seed(0)
    own, told = torch.randn(2, 2 * 4, 3).double(), torch.randn(2, 2 * 6, 3).double() * 4
    got = columns.of(told, 6).unflatten(1, (2, 3)).softmax(2)
    p = told.unflatten(1, (2, 6)).softmax(2)
    expected = torch.stack([p[:, :, 4], p[:, :, 1] + p[:, :, 2],
                            p[:, :, 5] + p[:, :, 0] + p[:, :, 3]], 2)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    # The student's probabilities are renormalised over the compared classes.
    q = own.unflatten(1, (2, 4)).softmax(2)[:, :, [0, 1, 3]]
    torch.testing.assert_close(
        columns.of_student(own, 4).unflatten(1, (2, 3)).softmax(2), q / q.sum(2, keepdim=True))


def test_softmax_is_renormalised_over_mapped_classes():
    columns = mapped(Kind(2, 2, False), Kind(5, 5, False), ['sky', 'vehicle'], STREETS,
                     vehicle=['car', 'truck'])
    told = torch.randn(1, 5, 4, 4).double()
    p = told.softmax(1)
    known = torch.stack([p[:, 4], p[:, 1] + p[:, 2]], 1)
    torch.testing.assert_close(columns.of(told, 5).softmax(1), known / known.sum(1, keepdim=True))
    assert columns.kept is None


def test_sigmoid_columns():
    columns = mapped(Kind(3, 3, True), Kind(5, 5, True), ['a', 'sky', 'vehicle'], STREETS,
                     a=None, vehicle=['car', 'truck'])
    told = torch.randn(1, 10, 3).double()
    p = told.unflatten(1, (2, 5)).sigmoid()
    got = columns.of(told, 5).unflatten(1, (2, 2)).sigmoid()
    torch.testing.assert_close(got[:, :, 0], p[:, :, 4])
    torch.testing.assert_close(got[:, :, 1], 1 - (1 - p[:, :, 1]) * (1 - p[:, :, 2]))
    assert columns.kept == (1, 2)


@pytest.mark.parametrize('named', [1, 2])
def test_one_logit_learns_from_several_softmax_columns(named):
    """The output of a binary student is compared with the sum of several classes."""
    own = ['vehicle'] if named == 1 else ['ground', 'vehicle']
    classes = dict(vehicle=['car', 'truck'])
    if named == 2:
        classes['ground'] = ['road', 'person', 'sky']
    columns = mapped(Kind(1, named, True), Kind(5, 5, False), own, STREETS, **classes)
    told = torch.randn(2, 5, 3).double()
    p = told.softmax(1)
    torch.testing.assert_close(columns.of(told, 5).sigmoid()[:, 0], p[:, 1] + p[:, 2])


def test_two_columns_learn_from_several_sigmoids():
    columns = mapped(Kind(2, 1, False), Kind(5, 5, True), ['vehicle'], STREETS,
                     vehicle=['car', 'truck'])
    told = torch.randn(2, 5, 3).double()
    p = told.sigmoid()
    yes = 1 - (1 - p[:, 1]) * (1 - p[:, 2])
    torch.testing.assert_close(columns.of(told, 5).softmax(1), torch.stack([yes, 1 - yes], 1))


@pytest.mark.parametrize('crack', [0, 1])
def test_one_logit_of_the_teacher(crack):
    """The single output of a head in mmseg is the logit of the second class."""
    names = ['crack', 'wall'] if crack == 0 else ['wall', 'crack']
    told = torch.randn(2, 1, 3).double()
    yes = told.sigmoid() if crack else 1 - told.sigmoid()
    columns = mapped(Kind(3, 3, False), Kind(1, 2, True), ['tile', 'damage', 'stone'], names,
                     tile=None, damage='crack', stone='wall')
    assert columns.kept == (1, 2)
    torch.testing.assert_close(columns.of(told, 1).softmax(1), torch.cat([yes, 1 - yes], 1))
    columns = mapped(Kind(1, 2, True), Kind(1, 2, True), ['stone', 'damage'], names,
                     damage='crack', stone='wall')
    got = told if columns is None else columns.of(told, 1)
    torch.testing.assert_close(got.sigmoid(), yes)
    with pytest.raises(ValueError, match='one logit represents both classes here, so `classes` of '
                                         "the teacher must map 'damage' to one class of the "
                                         'teacher, but maps it to None'):
        mapped(Kind(1, 2, True), Kind(1, 2, True), ['stone', 'damage'], names, damage=None)
    with pytest.raises(ValueError, match='both classes of the student, so .* must map both'):
        mapped(Kind(1, 2, True), Kind(5, 5, False), ['ground', 'car'], STREETS, ground=None)
    with pytest.raises(ValueError, match='of the teacher, but the student has 3 columns|write '
                                         'both'):
        mapped(Kind(3, 3, True), Kind(1, 2, True), ['a', 'b', 'c'], names, a='wall', b=None,
               c=None)


# --- in a Distiller -------------------------------------------------------------------------------


def prepared(student, teacher, *entries, classes=CLASSES, scope='mmdet'):
    torch.manual_seed(3)
    model = build(dict(distiller(student, teacher, *(entries or (KD, ))), classes=list(classes)),
                  scope)
    model.init_weights()
    return model.eval()


def softmax(**arguments):
    return retinanet(loss_cls=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=False),
                     **arguments)


def batch(labels=(0, 1, 2), boxes=None):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(
        64, 64), ori_shape=(64, 64), scale_factor=(1., 1.)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes or [[2., 2, 30, 30], [30., 30, 62, 62], [4., 34, 28, 60]]),
        labels=torch.tensor(labels))
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    torch.manual_seed(0)
    return torch.randn(1, 3, 64, 64), [sample]


def test_dense_heads(tmp_path):
    teacher = dict(save_teacher(tmp_path / 't.pth', retinanet(classes=4), OTHERS), classes=SHAPES)
    model = prepared(retinanet(), teacher)
    inputs, _ = batch()
    (own, *_), (told, *_) = model.terms[0].levels(*observe(model, inputs))
    network, student = model.teacher.model, model.student
    with torch.no_grad():
        p = network.bbox_head(network.extract_feat(inputs))[0][0].unflatten(1, (9, 4)).sigmoid()
        z = student.bbox_head(student.extract_feat(inputs))[0][0].unflatten(1, (9, 3))
    expected = torch.stack([p[:, :, 2], 1 - (1 - p[:, :, 3]) * (1 - p[:, :, 0])], 2)
    torch.testing.assert_close(told.unflatten(1, (9, 2)).sigmoid(), expected)
    torch.testing.assert_close(own.unflatten(1, (9, 2)), z[:, :, :2])
    assert 'probabilities of several classes of the teacher are added up for 1' in str(
        model.terms[0])
    assert "1 of the student's classes are left out, because no class" in str(model.terms[0])
    assert model.teacher.provenance()['classes'] == 'disc=ball, square=box+crate, cross=None'


def test_labels_without_partner_are_ignored(tmp_path):
    """A loss gets labels of the compared columns, and -1 where the class has no teacher."""
    seen = {}

    def watch(self, student, teacher, weight=None, *, labels, num_positives, boxes, box_labels,
              ignored_boxes, num_classes):
        seen.setdefault('labels', []).append(labels)
        seen.update(num_positives=num_positives, boxes=boxes, box_labels=box_labels,
                    ignored=ignored_boxes, num_classes=num_classes, channels=student.shape[1])
        return (student - teacher).square().mean()

    from mmkd.losses import LOSSES, DistillLoss
    watching = LOSSES.register(type('WatchingLoss', (DistillLoss, ), dict(compare=watch)))
    try:
        for student, other, columns in ((retinanet(), retinanet(classes=4), 2),
                                        (softmax(), softmax(classes=4), 3)):
            teacher = dict(save_teacher(tmp_path / 't.pth', other, OTHERS),
                           classes=dict(SHAPES, disc=None, cross='dog'))
            model = prepared(student, teacher, dict(type='mmkd.WatchingLoss', on='cls'))
            plain = prepared(student, teacher, dict(type='mmkd.MSELoss', on='neck'))
            model.student.load_state_dict(plain.student.state_dict())
            inputs, samples = batch()
            seen.clear()
            step(model.train(), inputs, samples)
            found = torch.cat([one.flatten() for one in seen['labels']])
            # The student's own targets: disc 0, square 1, cross 2, background 3.
            own = torch.cat([one.flatten() for one in labels_of_student(plain.student, inputs,
                                                                        samples)])
            assert {0, 1, 2, 3} <= set(own.tolist())
            table = {0: -1, 1: 0, 2: 1, 3: 2, -1: -1}
            assert sorted(found.tolist()) == sorted(table[one] for one in own.tolist())
            assert seen['num_classes'] == 2
            assert seen['channels'] == columns
            assert seen['num_positives'] == sum(one in (1, 2) for one in own.tolist())
            assert seen['box_labels'][0].tolist() == [0, 1]
            assert seen['boxes'][0].tolist() == samples[0].gt_instances.bboxes[1:].tolist()
            assert seen['ignored'][0].tolist() == samples[0].gt_instances.bboxes[:1].tolist()
    finally:
        del LOSSES.classes[watching.__name__]


def labels_of_student(student, inputs, samples):
    """Return the labels that the student's own loss gets, with -1 where the weight is 0."""
    found = []
    forward = student.bbox_head.loss_cls.forward

    def watched(score, target, weight=None, **others):
        found.append(target.masked_fill(weight.reshape(*target.shape, -1).amax(-1) == 0, -1))
        return forward(score, target, weight, **others)

    student.bbox_head.loss_cls.forward = watched
    student.train()(inputs, samples, mode='loss')
    del student.bbox_head.loss_cls.forward
    return found


def test_box_heads_of_two_stages(tmp_path):
    teacher = dict(save_teacher(tmp_path / 't.pth', two_stage(classes=4), OTHERS), classes=SHAPES)
    model = prepared(two_stage(), teacher, KD, dict(type='mmkd.MSELoss', on='neck'))
    inputs, samples = batch()
    losses, seen, told = step(model.train(), inputs, samples)
    (own, ), (got, ) = model.terms[0].levels(seen, told)
    (answer, ), = [[one for point, one in answers.items() if point.name == 'cls']
                   for answers in told.values() if any(point.name == 'cls' for point in answers)]
    p = answer.levels[0].softmax(1)
    expected = torch.stack([p[:, 2], p[:, 3] + p[:, 0], p[:, 4] + p[:, 1]], 1)
    torch.testing.assert_close(got.softmax(1), expected)
    assert own.shape == got.shape
    losses['loss_cls_kd'][0].backward()
    gradient = model.student.roi_head.bbox_head.fc_cls.weight.grad
    assert gradient[[0, 1, 3]].abs().sum() > 0
    assert gradient[2].abs().sum() == 0  # cross learns only from its labels


def test_boxes_of_each_class_are_selected_not_summed(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', two_stage(classes=4), OTHERS)
    entry = dict(type='mmkd.MSELoss', on='reg')
    with pytest.raises(ValueError, match='`reg` has boxes or masks for each class, which cannot '):
        prepared(two_stage(), dict(teacher, classes=SHAPES), entry)
    model = prepared(two_stage(), dict(teacher, classes=dict(SHAPES, square='box')), entry)
    inputs, samples = batch()
    _, seen, told = step(model.train(), inputs, samples)
    (own, ), (got, ) = model.terms[0].levels(seen, told)
    (answer, ), = [list(answers.values()) for answers in told.values()]
    assert own.shape == got.shape
    by_class = answer.levels[0].unflatten(1, (4, 4))  # x of all classes, then y, ...
    assert torch.equal(got.flatten(1), by_class[:, :, [2, 3]].flatten(1))


def test_segmentors(tmp_path):
    teacher = dict(save_teacher(tmp_path / 't.pth', segmentor(classes=5), STREETS, scope='mmseg'),
                   classes=dict(vehicle=['car', 'truck'], hole=None))
    model = prepared(segmentor(classes=3), teacher, classes=('hole', 'vehicle', 'sky'),
                     scope='mmseg')
    inputs = torch.randn(1, 3, 64, 64)
    (own, ), (told, ) = model.terms[0].levels(*observe(model, inputs))
    network = model.teacher.model
    with torch.no_grad():
        p = network.decode_head(network.extract_feat(inputs)).softmax(1)
        mine = model.student.decode_head(model.student.extract_feat(inputs))
    known = torch.stack([p[:, 1] + p[:, 2], p[:, 4]], 1)
    torch.testing.assert_close(told.softmax(1), known / known.sum(1, keepdim=True))
    torch.testing.assert_close(own, mine[:, 1:])


def test_a_coco_teacher_needs_a_mapping(tmp_path):
    from mmdet.datasets import CocoDataset
    coco = CocoDataset.METAINFO['classes']
    teacher = save_teacher(tmp_path / 't.pth', retinanet(classes=80), coco)
    with pytest.raises(ValueError, match="lacks 3 .*RBC, WBC, Platelets.*map the student's classes "
                                         "to the teacher's, with None for no class: "
                                         "`teacher=dict\\(classes={'RBC': 'person', 'WBC': None, "
                                         "'Platelets': None}\\)`") as info:
        prepared(retinanet(), teacher, classes=('RBC', 'WBC', 'Platelets'))
    assert len(str(info.value)) < 900
    model = prepared(retinanet(), dict(teacher, classes=dict(
        RBC=['frisbee', 'sports ball'], WBC='orange', Platelets=None)),
        classes=('RBC', 'WBC', 'Platelets'))
    (own, *_), (told, *_) = model.terms[0].levels(*observe(model, batch()[0]))
    assert own.shape == told.shape == (1, 9 * 2, 8, 8)


def test_a_mapping_is_checked_where_no_classes_are_compared(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(classes=4), OTHERS)
    neck = dict(type='mmkd.MSELoss', on='neck')
    with pytest.raises(ValueError, match=r"names 'bal' \(closest: 'ball'\), but the teacher has no "
                       "such class; its classes are .*; correct the names$"):  # and no points
        prepared(retinanet(), dict(teacher, classes=dict(SHAPES, disc='bal')), neck)
    with pytest.raises(ValueError, match="`classes` of `teacher` is a mapping of class names, but "
                       'those of `teacher` are not known; give it a checkpoint'):
        prepared(retinanet(), dict(save_teacher(
            tmp_path / 'u.pth', retinanet(classes=4), ()), classes=SHAPES), neck)


def test_a_mapping_in_a_file_is_named(tmp_path):
    (tmp_path / 'map.json').write_text('{"disc": "ball", "square": "box"}')
    mapping = stated_mapping(str(tmp_path / 'map.json'), 'teacher.classes')[1]
    with pytest.raises(ValueError, match=r"`classes` of the teacher in `.*map.json` does not list"):
        partners_of(CLASSES, OTHERS, mapping)


def test_committee_members_have_separate_mappings(tmp_path):
    """One member has a mapping, the other has the student's classes."""
    members = [dict(save_teacher(tmp_path / 'a.pth', retinanet(classes=4), OTHERS),
                    classes=dict(SHAPES, cross='dog')),
               save_teacher(tmp_path / 'b.pth', retinanet(), CLASSES)]
    model = prepared(retinanet(), dict(type='mmkd.Committee', members=members))
    losses = model.train()(*batch(), mode='loss')
    assert all(one.isfinite() for one in losses['loss_cls_kd'])
    members[0]['classes'] = SHAPES
    model = prepared(retinanet(), dict(type='mmkd.Committee', members=members))
    with pytest.raises(ValueError, match="write `average='loss'`"):
        model.train()(*batch(), mode='loss')
    model = prepared(retinanet(), dict(type='mmkd.Committee', members=members, average='loss'))
    assert model.train()(*batch(), mode='loss')['loss_cls_kd'][0].isfinite()


def test_train_resume_and_a_cache_that_serves_two_mappings(shapes, tmp_path):
    path = tmp_path / 'classes.json'
    path.write_text(json.dumps(SHAPES))
    plain = save_teacher(tmp_path / 't.pth', retinanet(classes=4), OTHERS)
    cached = dict(plain, type='mmkd.CachedTeacher', cache=str(tmp_path / 'cache'),
                  stored_as='float32')

    def losses(teacher, name, hooks, **changes):
        config = detector_config(shapes, dict(distiller(retinanet(), teacher, KD), hooks=hooks),
                                 str(tmp_path / name), **changes)
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        return [one['loss_cls_kd'] for one in train(config)[1]]

    hooks = [dict(type='mmkd.ReseedHook')]
    whole = losses(dict(plain, classes=str(path)), 'whole', hooks, **{'train_cfg.max_epochs': 2})
    first = losses(dict(cached, classes=SHAPES), 'run', hooks)
    assert first == pytest.approx(whole[:2], rel=1e-5)
    assert losses(dict(plain, classes=SHAPES), 'run', hooks, resume=True,
                  **{'train_cfg.max_epochs': 2}) == pytest.approx(whole[2:], rel=1e-5)
    # The cache stores the teacher's own columns, so another mapping can use the same entries.
    other = dict(SHAPES, disc='dog')
    assert losses(dict(cached, classes=other, on_miss='error'), 'other', hooks) != first
