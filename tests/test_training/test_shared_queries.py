"""Student and teacher predict for the same queries, the student in a second pass."""
import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher
from support.queries import batch, detector
from support.rows import slow_but
from torch import nn

from mmkd import KDDETRLoss
from mmkd.losses import METHODS
from mmkd.training import shared_queries

KINDS = ('detr', 'conditional', 'dab', 'deformable')
TEACHERS, RANDOM = METHODS['kd_detr'].entries('query')


def one_stage(kind, queries=6, **changes):
    """A detector with learned queries."""
    model = dict(detector(kind, queries), **changes)
    return dict(model, as_two_stage=False) if kind == 'deformable' else model


def prepared(student, teacher, *entries, **more):
    torch.manual_seed(3)
    model = build(dict(distiller(student, teacher, *entries), **more))
    model.init_weights()
    return model


def exact(model):
    """Disable dropout. Deformable DETR returns losses only in training mode."""
    model.eval()
    model.student.training = True
    return model


def predictions(model, inputs, samples, queries):
    """Return mmdet's predictions of all layers for other learned queries."""
    own, count, model.training = model.query_embedding, model.num_queries, False
    model.query_embedding = nn.Embedding.from_pretrained(queries)
    model.num_queries = len(queries)
    try:
        return model._forward(inputs, samples)[:2]
    finally:
        model.query_embedding, model.num_queries = own, count


def loss_of(mine, theirs, use_sigmoid):
    (s, a), (t, b) = ([one[-1].transpose(1, 2) for one in side] for side in (mine, theirs))
    return KDDETRLoss(use_sigmoid=use_sigmoid)(s, t, student_also=[a], teacher_also=[b])


@pytest.mark.parametrize('kind', slow_but(('detr', 'deformable'), ((kind, kind) for kind in KINDS)))
def test_both_predict_for_the_teachers_and_for_random_queries(tmp_path, monkeypatch, kind):
    teacher = save_teacher(tmp_path / 't.pth', one_stage(kind, queries=9))
    model = exact(prepared(one_stage(kind), teacher, TEACHERS, RANDOM))
    network, keys = model.teacher.model, set(model.state_dict())
    inputs, samples = batch()
    drawn = torch.randn_like(network.query_embedding.weight)
    monkeypatch.setattr(shared_queries, 'random_like', lambda own, iteration: drawn)
    losses = model(inputs, samples, mode='loss')
    monkeypatch.undo()
    use_sigmoid = bool(model.bbox_head.loss_cls.use_sigmoid)
    for name, queries in (('teacher', network.query_embedding.weight), ('random', drawn)):
        with torch.no_grad():
            expected = loss_of(*(predictions(one, inputs, samples, queries)
                                 for one in (model.student, network)), use_sigmoid)
        for part, value in expected.items():
            got, = losses[f'loss_cls_kddetr_{name}_queries_{part}']
            torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-6)
    # The queries of the student are restored.
    assert isinstance(model.query_embedding, nn.Embedding)
    assert (model.num_queries, set(model.state_dict())) == (6, keys)


def test_encoders_run_once_and_gradients_go_to_the_student_alone(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', one_stage('deformable', queries=9))
    model = prepared(one_stage('deformable'), teacher, TEACHERS, RANDOM,
                     dict(type='mmkd.MSELoss', on='reg', queries='random'))
    inputs, samples = batch()
    model(inputs, samples, mode='loss')  # the first step searches for idle modules
    calls = []
    for side, one in (('student', model.student), ('teacher', model.teacher.model)):
        for part in ('backbone', 'encoder', 'decoder'):
            getattr(one, part).register_forward_hook(
                lambda *_, name=f'{side} {part}': calls.append(name))
    losses = model(inputs, samples, mode='loss')
    assert {name: calls.count(name) for name in calls} == {
        'student backbone': 1, 'student encoder': 1, 'student decoder': 3,
        'teacher backbone': 1, 'teacher encoder': 1, 'teacher decoder': 2}
    sum(sum(one) for name, one in losses.items() if 'queries' in name).backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.reference_points_fc.weight.grad.abs().sum() > 0
    assert model.query_embedding.weight.grad is None
    assert all(one.grad is None for one in model.teacher.model.parameters())


def test_random_queries_are_shared_and_drawn_in_each_step(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', one_stage('conditional'))
    inputs, samples = batch()
    model = prepared(one_stage('conditional'), teacher, RANDOM).eval()
    values = []
    for iteration in (0, 1, 0):
        model.distillation.iteration = iteration
        values.append(model(inputs, samples, mode='loss')[
            'loss_cls_kddetr_random_queries_cls'][0])
    assert values[0] == values[2] != values[1]  # a resumed run draws the same queries
    # With the teacher's weights, the student has a loss of 0 for any queries.
    model.student.load_state_dict(torch.load(tmp_path / 't.pth')['state_dict'])
    losses = model(inputs, samples, mode='loss')
    assert all(losses[f'loss_cls_kddetr_random_queries_{part}'][0].abs() < 1e-4
               for part in ('cls', 'l1', 'giou'))


def test_partner_runs_a_second_pass(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', one_stage('conditional', queries=9))
    entry = dict(type='mmkd.KDDETRLoss', queries='teacher')
    model = prepared(one_stage('conditional'), teacher, dict(entry, on='cls'), dict(
        entry, on=dict(student='partner:cls', teacher='cls')),
        companions=dict(partner=dict(config=dict(
            default_scope='mmdet', model=one_stage('conditional')))))
    inputs, samples = batch()
    losses = model(inputs, samples, mode='loss')
    partner = model.distillation.partners['partner'].model
    sum(sum(one) for name, one in losses.items() if name.startswith('loss_partner')).backward()
    assert partner.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.backbone.conv1.weight.grad is None


def test_a_term_that_is_infinite_has_no_gradient(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', one_stage('conditional'))
    model = prepared(one_stage('conditional'), teacher, TEACHERS)
    inputs, samples = batch()
    model(inputs, samples, mode='loss')
    model.teacher.model.bbox_head.fc_cls.bias.data.fill_(float('inf'))
    losses = model(inputs, samples, mode='loss')
    total = sum(sum(one) if isinstance(one, list) else one for name, one in losses.items())
    total.backward()
    assert total.isfinite()
    assert model.backbone.conv1.weight.grad.isfinite().all()


@pytest.mark.parametrize('kind', slow_but(('deformable', ), ((kind, kind) for kind in KINDS)))
def test_detrdistill_compares_layers_maps_and_the_group(tmp_path, kind):
    teacher = save_teacher(tmp_path / 't.pth', one_stage(kind, queries=9))
    entries = [{key: value for key, value in entry.items() if key != 'if_there'}
               for entry in METHODS['detrdistill'].entries('query')]
    model = prepared(one_stage(kind), teacher, *entries)
    inputs, samples = batch()
    losses = model(inputs, samples, mode='loss')
    ours = {name: one for name, one in losses.items() if 'detrdistill' in name}
    levels = 4 if kind == 'deformable' else 1
    assert {name: len(one) for name, one in ours.items()} == {
        **{f'loss_cls_all_detrdistill_{part}': 2 for part in ('cls', 'l1', 'giou')},
        'loss_neck_detrdistillfeature': levels,
        **{f'loss_cls_all_detrdistillgroup_teacher_queries_{part}': 2
           for part in ('cls', 'l1', 'giou')}}
    for name, one in ours.items():  # the last layer of the box head is initialised with zeros
        model.zero_grad()
        sum(one).backward(retain_graph=True)
        assert any(p.grad is not None and p.grad.any() for p in model.parameters()), name


def test_layers_are_levels(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', one_stage('detr', queries=9))
    model = prepared(one_stage('detr'), teacher, dict(type='mmkd.KDLoss', on='cls.all'), dict(
        type='mmkd.KDLoss', on='cls.0'), dict(type='mmkd.KDLoss', on='cls')).eval()
    losses = model(*batch(), mode='loss')
    torch.testing.assert_close(losses['loss_cls_all_kd'], [
        losses['loss_cls_0_kd'][0], losses['loss_cls_kd'][0]])


@pytest.mark.parametrize(('student', 'teacher', 'entry', 'message'), [
    (lambda: detector('deformable'), lambda: one_stage('deformable'), {},
     r'but the DeformableDETR takes its queries from .*\(`as_two_stage`\), so the student'),
    (lambda: one_stage('deformable'), lambda: detector('deformable'), {},
     'so the teacher cannot run with other queries; leave out `queries`'),
    (lambda: detector('dino'), lambda: detector('dino'), {}, 'the DINO takes its queries from'),
    (lambda: one_stage('dab', num_patterns=2), lambda: one_stage('dab'), {}, 'several patterns'),
    (lambda: one_stage('conditional'), lambda: one_stage('dab'), {},
     'decodes queries by a DABDetrTransformerDecoder, the student by a ConditionalDetr'),
    (retinanet, retinanet, dict(also=['neck']), "of the student has none; compare 'cls'"),
    (lambda: one_stage('detr'), lambda: one_stage('detr'), dict(queries='mine'),
     "`queries` must be one of 'teacher', 'random', but got 'mine'"),
    (lambda: one_stage('detr'), lambda: one_stage('detr'),
     dict(through=dict(student='neck', teacher='neck')), '`queries` and `through` cannot be '
                                                         'combined')])
def test_unsupported_pairs_are_refused_before_training(
        tmp_path, monkeypatch, student, teacher, entry, message):
    # the search for idle modules takes seconds
    monkeypatch.setattr('mmkd.training.probe.trials', lambda _: [])
    given = save_teacher(tmp_path / 't.pth', teacher())
    with pytest.raises(ValueError, match=message):
        prepared(student(), given, dict(TEACHERS, **entry))


def test_widths_must_be_equal(tmp_path, monkeypatch):
    """A narrow student with a neck of the same width as its decoder."""
    narrow = one_stage('detr')
    narrow['neck']['out_channels'] = 128
    narrow['positional_encoding']['num_feats'] = 64
    for part in (narrow['encoder'], narrow['decoder']):
        for layer in part['layer_cfg'].values():
            layer['embed_dims'] = 128
    narrow['bbox_head']['embed_dims'] = 128
    teacher = save_teacher(tmp_path / 't.pth', one_stage('detr'))
    monkeypatch.setattr('mmkd.training.probe.trials', lambda _: [])
    with pytest.raises(ValueError, match='a query of the teacher has 256 channels, one of the '
                       'student 128'):
        prepared(narrow, teacher, TEACHERS)


@pytest.mark.parametrize('source', ['cached', 'committee'])
def test_teacher_without_a_second_pass_is_refused(tmp_path, source):
    one = save_teacher(tmp_path / 't.pth', one_stage('detr'))
    teacher = dict(one, type='mmkd.CachedTeacher', cache=str(tmp_path / 'c')) if (
        source == 'cached') else dict(type='mmkd.Committee', members=[one, one])
    with pytest.raises(ValueError, match='`queries` needs a frozen teacher'):
        build(distiller(one_stage('detr'), teacher, TEACHERS))


def test_the_random_numbers_of_the_student_stay_as_they_are(tmp_path):
    """Neither random queries nor dropout in the second pass change them."""
    teacher, found = save_teacher(tmp_path / 't.pth', one_stage('detr')), []
    inputs, samples = batch()
    for entries in ((), (TEACHERS, RANDOM)):
        model = prepared(one_stage('detr'), teacher, dict(type='mmkd.MSELoss', on='backbone'),
                         *entries).train()
        model(inputs, samples, mode='loss')  # some things happen only in the first step
        torch.manual_seed(5)
        losses = model(inputs, samples, mode='loss')
        found.append((losses['loss_cls'].item(), torch.rand(1).item()))
    assert found[0] == found[1]
