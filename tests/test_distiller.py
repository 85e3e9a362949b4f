"""The Distiller in MMEngine's Runner: what it adds to a run, and what it must not change."""
import copy
import os

import pytest
import torch
from conftest import (
    CLASSES,
    build,
    detector_config,
    distiller,
    leave_group,
    observe,
    record_losses,
    retinanet,
    save_teacher,
    saved_at,
    train,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from support.tools import run_tool
from test_hooks.test_validation import assert_equal

from mmkd.losses import DISTLoss, KDLoss


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))


def snapshot(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_trains_and_logs_the_loss_under_its_own_name(shapes, tmp_path, teacher):
    model = distiller(retinanet(), teacher, dict(type='mmkd.DISTLoss', on='cls'),
                      dict(type='mmkd.KDLoss', on='cls', loss_weight=0.1))
    _, losses = train(detector_config(shapes, model, str(tmp_path / 'run')))
    assert len(losses) == 2
    assert list(losses[0]) == ['loss_cls', 'loss_bbox', 'loss_cls_dist', 'loss_cls_kd']
    assert losses[0]['loss_cls_dist'] > 0
    assert losses[0]['loss_cls_kd'] > 0


@pytest.mark.parametrize('loss', [DISTLoss, KDLoss])
def test_loss_is_that_of_the_recorded_logits_level_by_level(shapes, tmp_path, teacher, loss):
    model = build(distiller(retinanet(), teacher, dict(type=f'mmkd.{loss.__name__}', on='cls')))
    model.init_weights()
    inputs = torch.randn(2, 3, 64, 96)
    runner = Runner.from_cfg(detector_config(shapes, retinanet(), str(tmp_path / 'plain')))
    data = next(iter(runner.build_dataloader(runner.cfg.train_dataloader)))
    data = model.data_preprocessor(data, True)
    inputs, samples = data['inputs'], data['data_samples']
    model.eval()  # so that both forward passes use the same batch statistics
    got = model(inputs, samples, mode='loss')[f'loss_cls_{loss.__name__[:-4].lower()}']
    student = model.student.bbox_head(model.student.extract_feat(inputs))[0]
    network = model.teacher.model
    told = network.bbox_head(network.extract_feat(inputs))[0]
    expected = [loss(use_sigmoid=True)(s, t) for s, t in zip(student, told)]
    assert [v.item() for v in got] == [v.item() for v in expected]


def test_checkpoint_is_the_plain_students(shapes, tmp_path, teacher):
    config = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'))
    runner, _ = train(config)
    path = str(tmp_path / 'run' / 'epoch_1.pth')
    saved = saved_at(path)
    plain = build(retinanet())
    assert list(saved['state_dict']) == list(plain.state_dict())
    plain.load_state_dict(saved['state_dict'], strict=True)

    image = torch.randn(1, 3, 64, 96)
    runner.model.eval(), plain.eval()
    with torch.no_grad():
        for one, other in zip(runner.model(image), plain(image)):
            assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_plain_checkpoint_loads_before_distillation(shapes, tmp_path, teacher):
    """The task losses of the first iteration are those of the plain run."""
    start = save_teacher(tmp_path / 'start.pth', retinanet(), seed=5)['checkpoint']
    changes = dict(load_from=start)
    _, plain = train(detector_config(shapes, retinanet(), str(tmp_path / 'plain'), **changes))
    _, distilled = train(detector_config(shapes, distiller(retinanet(), teacher),
                                         str(tmp_path / 'distilled'), **changes))
    for name in ('loss_cls', 'loss_bbox'):
        assert distilled[0][name] == plain[0][name]


def test_with_weight_zero_the_run_is_the_plain_run_to_the_bit(shapes, tmp_path, teacher):
    plain, _ = train(detector_config(shapes, retinanet(), str(tmp_path / 'plain')))
    entry = dict(type='mmkd.DISTLoss', on='cls', loss_weight=0.)
    other, _ = train(detector_config(shapes, distiller(retinanet(), teacher, entry),
                                     str(tmp_path / 'zero')))
    weights = other.model.state_dict()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_teacher_does_not_change_and_is_nowhere_in_the_student(shapes, tmp_path, teacher):
    config = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
                             custom_hooks=[dict(type='EMAHook')])
    runner = Runner.from_cfg(config)
    before = saved_at(teacher['checkpoint'])['state_dict']
    runner.train()
    network = runner.model.teacher.model
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(module.training for module in network.modules())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())

    of_teacher = {id(t) for t in [*network.parameters(), *network.buffers()]}
    ema = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
    places = dict(
        parameters=runner.model.parameters(),
        buffers=runner.model.buffers(),
        optimizer=(p for g in runner.optim_wrapper.param_groups for p in g['params']),
        ema=[*ema.parameters(), *ema.buffers()])
    for place, tensors in places.items():
        assert not of_teacher & {id(t) for t in tensors}, place
    names = set(build(retinanet()).state_dict())
    saved = saved_at(str(tmp_path / 'run' / 'epoch_1.pth'))
    assert set(saved['state_dict']) == names
    assert set(saved['ema_state_dict']) == {f'module.{name}' for name in names} | {'steps'}
    assert len(ema.state_dict()) == len(names) + 1


def test_train_mode_reaches_the_student_only(teacher):
    model = build(distiller(retinanet(), teacher))
    model.init_weights()
    for mode in (True, False, True):
        model.train(mode)
        assert model.training is model.student.training is model.bbox_head.training is mode
        assert not model.teacher.model.training


def test_teacher_moves_with_the_student(teacher):
    model = build(distiller(retinanet(), teacher))
    model.init_weights()
    model.to(torch.float64)
    assert next(model.teacher.model.parameters()).dtype == torch.float64
    assert next(model.student.parameters()).dtype == torch.float64
    model.to('meta')
    assert next(model.teacher.model.parameters()).device.type == 'meta'


def test_sync_batch_norm_conversion_skips_the_teacher(teacher):
    from mmengine.model import convert_sync_batchnorm
    model = build(distiller(retinanet(), teacher))
    model.init_weights()
    model = convert_sync_batchnorm(model)
    assert type(model.student.backbone.bn1).__name__ == 'SyncBatchNorm'
    assert type(model.teacher.model.backbone.bn1).__name__ == 'BatchNorm2d'


def test_distributed_wrapper_sees_the_student_only(tmp_path, shapes, teacher):
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import build_optim_wrapper
    model = build(distiller(retinanet(), teacher))
    model.init_weights()
    runner = Runner.from_cfg(detector_config(shapes, retinanet(), str(tmp_path / 'plain')))
    data = next(iter(runner.build_dataloader(runner.cfg.train_dataloader)))
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(model, device_ids=None)
        own = [*model.student.parameters(), *model.student.buffers()]
        for seen in ([*wrapped.parameters(), *wrapped.buffers()],
                     [*wrapped._module_parameters, *wrapped.modules_buffers]):
            assert {id(t) for t in seen} <= {id(t) for t in own}
        optimizer = build_optim_wrapper(wrapped, dict(optimizer=dict(type='SGD', lr=0.01)))
        log = wrapped.train_step(data, optimizer)
        assert log['loss_cls_dist'] > 0
    finally:
        del wrapped
        leave_group()


def test_attributes_and_modules_are_the_students(teacher):
    model = build(distiller(retinanet(), teacher))
    plain = build(retinanet())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert [n for n, _ in model.named_modules()] == [n for n, _ in plain.named_modules()]
    assert model.bbox_head is model.student.bbox_head
    assert model.with_neck is True
    assert model.test_cfg == plain.test_cfg
    with pytest.raises(AttributeError, match='no_such_thing'):
        model.no_such_thing  # noqa: B018


def test_copy_has_weights_of_its_own_and_shares_the_teacher(teacher):
    model = build(distiller(retinanet(), teacher))
    model.init_weights()
    twin = copy.deepcopy(model)
    assert twin.teacher is model.teacher
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert twin.bbox_head is twin.student.bbox_head is not model.bbox_head
    assert model.backbone.conv1.weight.abs().sum() > 0


def test_testing_needs_no_teacher(shapes, tmp_path, teacher):
    _, _ = train(detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run')))
    path = str(tmp_path / 'run' / 'epoch_1.pth')
    gone = dict(config='no/such/config.py', checkpoint='no/such/file.pth')
    distilled = Runner.from_cfg(detector_config(
        shapes, distiller(retinanet(), gone), str(tmp_path / 'test'), load_from=path))
    plain = Runner.from_cfg(detector_config(
        shapes, retinanet(), str(tmp_path / 'plain_test'), load_from=path))
    scores = distilled.test()
    assert 'coco/bbox_mAP' in scores
    assert scores == plain.test()
    assert distilled.model.teacher.model is None


def test_resumed_run_ends_like_an_uninterrupted_one(shapes, tmp_path, teacher):
    def config(name, epochs, **changes):
        return detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / name),
                               **{'train_cfg.max_epochs': epochs,
                                  'train_dataloader.dataset.pipeline.3.prob': 0.}, **changes)
    whole, _ = train(config('whole', 2))
    train(config('parts', 1))
    parts, losses = train(config('parts', 2, resume=True))
    assert len(losses) == 2  # the first epoch was loaded, not trained again
    assert parts.epoch == whole.epoch == 2
    expected = whole.model.state_dict()
    for name, value in parts.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_init_weights_leaves_the_teacher_as_loaded(teacher):
    model = build(distiller(retinanet(), teacher))
    model.init_weights()
    before = snapshot(model.teacher.model)
    model.init_weights()
    for name, value in snapshot(model.teacher.model).items():
        assert torch.equal(value, before[name])


def test_gradient_accumulation_and_bf16_autocast_train(shapes, tmp_path, teacher):
    config = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
                             **{'optim_wrapper.accumulative_counts': 2})
    runner = Runner.from_cfg(config)
    losses = record_losses(runner)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        runner.train()
    assert all(torch.isfinite(torch.tensor(list(step.values()))).all() for step in losses)


@pytest.mark.parametrize(('entry', 'error', 'message'), [
    (dict(type='mmkd.DISTLoss', on='csl'), ValueError,
     r'no point `csl` in the student \(RetinaNet\); closest: `cls`'),
    (dict(type='mmkd.DISTLoss', on='bbox_head.retina_clss'), ValueError,
     'closest: `bbox_head.retina_cls`'),
    (dict(type='mmkd.DISTLoss'), ValueError, "needs a loss and a point.*on='cls'"),
    (dict(on='cls'), ValueError, 'needs a loss and a point'),
    (dict(type='mmdet.FocalLoss', on='cls'), TypeError, 'FocalLoss is not a DistillLoss'),
    (dict(type='mmkd.DISTLoss', on=dict(student='cls')), TypeError, '`on` must be a point'),
    (dict(type='mmkd.DISTLoss', on=['cls']), TypeError, r"but got \['cls'\]"),
    (dict(type='mmkd.DISTLos', on='cls'), ValueError, 'no type `mmkd.DISTLos`.*`mmkd.DISTLoss`'),
    (dict(type='DISTLoss', on='cls', betta=2.), TypeError,
     'DISTLoss has no argument `betta` .*closest: `beta`.*its arguments are `beta`, `gamma`'),
    (dict(type='mmkd.DISTLoss', on='cls', name='dist_cls'), ValueError, "must contain 'loss'"),
    (dict(type='mmkd.DISTLoss', on='cls', name=7), ValueError, "must contain 'loss'"),
    (dict(type='mmkd.DISTLoss', on='cls', per_anchor='x'), TypeError, '`per_anchor` must be'),
    (dict(type='mmkd.DISTLoss', on='neck'), ValueError, '`neck` of the student is not known to be'),
])
def test_mistakes_in_an_entry_are_named(teacher, entry, error, message):
    with pytest.raises(error, match=message):
        build(distiller(retinanet(), teacher, entry))


def test_two_entries_of_one_name_are_refused(teacher):
    entry = dict(type='mmkd.DISTLoss', on='cls')
    with pytest.raises(ValueError, match='two entries of `distill` have the name `loss_cls_dist`'):
        build(distiller(retinanet(), teacher, entry, dict(entry)))
    build(distiller(retinanet(), teacher, entry, dict(entry, name='loss_again')))


@pytest.mark.parametrize(('part', 'value', 'error', 'message'), [
    ('distill', dict(type='mmkd.DISTLoss', on='cls'), TypeError,
     '`distill` must be a list of dicts'),
    ('distill', None, TypeError, '`distill` must be a list of dicts'),
    ('distill', [], ValueError, '`distill` is empty'),
    ('teacher', 'x.pth', TypeError, "`teacher` must be a dict, but got str: 'x.pth'"),
    ('teacher', dict(checkpoint='x.pth'), TypeError, 'FrozenTeacher needs `config`; its arguments'),
    ('teacher', dict(config='x.py', chekpoint='x.pth'), TypeError, 'closest: `checkpoint`'),
    ('student', dict(model=retinanet()), TypeError, 'must be a model, such as `_base_.model`'),
])
def test_mistakes_in_the_model_are_named(teacher, part, value, error, message):
    with pytest.raises(error, match=message):
        build(dict(distiller(retinanet(), teacher), **{part: value}))


def test_loss_with_parameters_is_trained_beside_the_student(teacher):
    from mmkd import MODELS as OURS
    from mmkd.losses import DistillLoss

    @OURS.register_module(force=True)
    class Learned(DistillLoss):

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def compare(self, student, teacher, weight):
            return (student - teacher).mean() * self.scale.sum()

    model = build(distiller(retinanet(), teacher, dict(type='mmkd.Learned', on='cls')))
    model.prepare()
    assert [p.shape for p in model.distillation.trained_beside] == [(1, )]
    assert not any('scale' in name for name in model.state_dict())


def test_name_of_a_loss_of_the_student_is_refused(shapes, tmp_path, teacher):
    entry = dict(type='mmkd.DISTLoss', on='cls', name='loss_bbox')
    with pytest.raises(ValueError, match='has a loss `loss_bbox` as well'):
        train(detector_config(shapes, distiller(retinanet(), teacher, entry),
                              str(tmp_path / 'run')))


def test_point_that_does_not_run_in_training_is_refused(teacher):
    student = retinanet()
    student['backbone']['out_indices'] = (0, 1, 2, 3)
    entry = dict(type='mmkd.KDLoss', on='bbox_head.loss_cls', use_sigmoid=True)
    with pytest.raises(ValueError, match='was not computed: its module'):
        build(distiller(student, teacher, entry)).prepare()


def test_teacher_point_can_differ_from_the_students(teacher):
    entry = dict(type='mmkd.KDLoss', on=dict(student='cls', teacher='bbox_head.retina_cls'))
    model = build(distiller(retinanet(), teacher, entry))
    model.prepare()
    match, = model.terms
    assert (match.student_point.paths, match.teacher_point.paths) == (
        ('bbox_head', ), ('bbox_head.retina_cls', ))
    assert match.name == 'loss_cls_kd'
    with pytest.raises(ValueError, match='no point `csl` in the teacher'):
        build(distiller(retinanet(), teacher, dict(
            type='mmkd.KDLoss', on=dict(student='cls', teacher='csl')))).prepare()


@pytest.mark.parametrize('per_anchor', [None, True])
def test_anchors_jointly_or_one_by_one(teacher, per_anchor):
    entry = dict(type='mmkd.DISTLoss', on='cls', per_anchor=per_anchor)
    model = build(distiller(retinanet(), teacher, entry))
    model.prepare()
    image = torch.randn(2, 3, 64, 64)
    levels, _ = model.terms[0].levels(*observe(model, image))
    assert levels[0].shape == ((18, 3, 8, 8) if per_anchor else (2, 27, 8, 8))


def test_keys_of_older_checkpoints_are_renamed_by_the_student(teacher):
    """SingleStageDetector renames the keys `rpn_head` of a two-stage model to `bbox_head`."""
    plain = build(retinanet())
    old = {k.replace('bbox_head', 'rpn_head'): v for k, v in plain.state_dict().items()}
    model = build(distiller(retinanet(), teacher))
    model.load_state_dict(old, strict=True)
    assert torch.equal(model.bbox_head.retina_cls.weight, plain.bbox_head.retina_cls.weight)


def test_steps_and_loss_parsing_are_the_students_own(teacher):
    model = build(distiller(retinanet(), teacher))
    for name in ('val_step', 'test_step', 'parse_losses'):
        setattr(model.student, name, lambda data, name=name: f'{name} of the student')
        assert getattr(model, name)(None) == f'{name} of the student'


def test_attributes_are_set_on_the_right_module(teacher):
    model = build(distiller(retinanet(), teacher))
    model.test_cfg = dict(score_thr=0.7)
    assert model.student.test_cfg == dict(score_thr=0.7)
    assert 'test_cfg' not in model.__dict__


@pytest.mark.slow
def test_mmengines_compile_option_trains_the_same(shapes, tmp_path, teacher):
    runs = [train(detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / name),
                                  **changes))[1]
            for name, changes in (('plain', {}), ('compiled', {'compile': dict(backend='eager')}))]
    assert runs[0] == runs[1]


def test_parameter_groups_are_those_of_the_plain_student(teacher):
    from mmengine.optim import build_optim_wrapper
    config = dict(optimizer=dict(type='SGD', lr=1., weight_decay=0.1), paramwise_cfg=dict(
        norm_decay_mult=0., custom_keys={'backbone.layer1': dict(lr_mult=0.1)}))
    groups = []
    for model in (build(retinanet()), build(distiller(retinanet(), teacher))):
        names = {id(p): n for n, p in model.named_parameters()}
        wrapper = build_optim_wrapper(model, copy.deepcopy(config))
        groups.append([([names.get(id(p)) for p in g['params']], g['lr'], g['weight_decay'])
                       for g in wrapper.param_groups])
    assert groups[0] == groups[1]
    assert (['backbone.layer1.0.conv1.weight'], 0.1, 0.1) in groups[0]


def test_checkpointed_block_is_refused_with_the_reason(shapes, tmp_path, teacher):
    student = retinanet(width=12)  # as wide as the teacher: no other error
    student['backbone']['with_cp'] = True
    entry = dict(type='mmkd.KDLoss', on='backbone.layer2.0.conv1', use_sigmoid=True)
    with pytest.raises(ValueError, match=r'has no gradient.*with_cp=True'):
        train(detector_config(shapes, distiller(student, teacher, entry), str(tmp_path / 'run')))


def test_six_lines_from_an_empty_directory(shapes, tmp_path, teacher, monkeypatch):
    """The config of the README, written to another folder and trained by mmdet's own tool."""
    import mmdet
    from mmdet.apis import init_detector
    plain = detector_config(shapes, retinanet(), str(tmp_path / 'plain'))
    plain.pop('custom_imports')
    plain.dump(str(tmp_path / 'my_retinanet.py'))
    (tmp_path / 'distilled.py').write_text(f'''
_base_ = ['./my_retinanet.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(config={teacher['config']!r}, checkpoint={teacher['checkpoint']!r}),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
''')
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    tools = os.path.join(os.path.dirname(mmdet.__file__), '.mim', 'tools')
    for command in ((f'{tools}/train.py', '../distilled.py', '--work-dir', 'out'),
                    (f'{tools}/test.py', '../distilled.py', 'out/epoch_1.pth')):
        run_tool(*command, cwd=folder)
    assert 'loss_cls_dist' in (folder / 'out').joinpath(
        next(p for p in os.listdir(folder / 'out') if p.startswith('2')), 'vis_data',
        'scalars.json').read_text()
    path = str(folder / 'out' / 'epoch_1.pth')
    load_checkpoint(build(retinanet()), path, strict=True)
    detector = init_detector(str(tmp_path / 'my_retinanet.py'), path, device='cpu')
    assert detector.dataset_meta['classes'] == CLASSES


def test_a_distilled_student_starts_like_the_student_alone(shapes, tmp_path):
    """Networks, connectors and losses with layers take no random numbers from it."""
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(channels=24))
    models = dict(alone=retinanet(), distilled=distiller(
        retinanet(), teacher, dict(type='mmkd.MSELoss', on='neck'),
        dict(type='mmkd.MGDLoss', on='neck', name='loss_mgd'),
        dict(type='mmkd.DISTLoss', on='cls')))
    first = {}

    class Keep(Hook):
        def __init__(self, name):
            self.name = name

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            weights = getattr(runner.model, 'student', runner.model).state_dict()
            first.setdefault(self.name, (
                {key: value.clone() for key, value in weights.items()},
                [one.img_id for one in data_batch['data_samples']], data_batch['inputs']))

    for name, model in models.items():
        config = detector_config(shapes, model, str(tmp_path / name))
        config.randomness = dict(seed=3)
        runner = Runner.from_cfg(config)
        runner.register_hook(Keep(name))
        runner.train()
    assert_equal(first['alone'], first['distilled'], '')
