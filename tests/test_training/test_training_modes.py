"""All training modes compared with plain training: the same losses and gradients."""
import copy

import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    leave_group,
    retinanet,
    save_teacher,
    saved_at,
)
from loops import Keeping, detector, images, prepared, save_teachers, segmenting, streets_of
from mmengine.hooks import EMAHook, Hook
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn

DIST = dict(type='mmkd.DISTLoss', on='cls')
NECK = dict(type='mmkd.MSELoss', on='neck')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with checkpoints of the teachers."""
    folder = str(tmp_path_factory.mktemp('teachers'))
    save_teachers(folder)
    return folder


@pytest.fixture
def teacher(folder):
    return dict(config=dict(default_scope='mmdet', model=retinanet(channels=24)),
                checkpoint=f'{folder}/detector.pth')


class KeepEvery(Hook):
    """Stores the losses and the weights of every iteration."""

    def __init__(self):
        self.losses, self.weights = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: value.item() for name, value in outputs.items()})
        self.weights.append(copy.deepcopy(runner.model.state_dict()))


def train(config):
    keep = KeepEvery()
    runner = Runner.from_cfg(config)
    runner.register_hook(keep, priority='VERY_HIGH')
    runner.train()
    return runner, keep


def run_of(way, shapes, work_dir, teacher, student=None, **changes):
    """Config of a run: 'plain', with the 'model' Distiller, or with the 'hook'."""
    student = student or retinanet()
    hooks = [dict(type='mmkd.DistillHook', teacher=teacher, distill=[DIST])]
    model = distiller(student, teacher, DIST) if way == 'model' else student
    return detector_config(shapes, model, str(work_dir), **{
        'custom_hooks': hooks if way == 'hook' else [], 'train_cfg.val_interval': 9, **changes})


def steps(model, batches, optim_wrapper=None, **settings):
    """Train with the batches; return the losses and the gradients."""
    optim_wrapper = optim_wrapper or Keeping(torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3))
    logs = [model.train_step(copy.deepcopy(batch), optim_wrapper) for batch in batches]
    return [{key: value.item() for key, value in log.items()} for log in logs], optim_wrapper.kept


# --- gradient accumulation -----------------------------------------------------------------------


@pytest.mark.parametrize(('make', 'batch_of'), [(detector, images), (segmenting, streets_of)])
def test_accumulated_gradients_are_those_of_the_whole_batch(folder, make, batch_of):
    """Also for connectors. Batch statistics are not used, and the weight of DIST is 0."""
    found = []
    for batches in ([batch_of([0, 1])], [batch_of([0]), batch_of([1])]):
        model = make(folder)
        for match in model.terms:
            match.factor = float(match.name != 'loss_cls_dist')  # DIST is not a mean over images
        wrapper = Keeping(torch.optim.SGD([p for p in model.parameters() if p.requires_grad],
                                          lr=1e-3), accumulative_counts=len(batches))
        wrapper.initialize_count_status(model, 0, len(batches))
        logs, kept = steps(model, batches, wrapper)
        assert len(kept) == 1
        beside = model.distillation.trained_beside
        assert len(kept[0]) == len(beside) + sum(p.requires_grad for p in model.parameters())
        found.append((logs, kept[0], len(beside)))
    (whole, gradients, count), (halves, others, _) = found
    for name, value in whole[0].items():
        if 'loss' in name:
            assert (halves[0][name] + halves[1][name]) / 2 == pytest.approx(value, rel=1e-5), name
    assert len(gradients) == len(others)
    assert all(one.any() for one in gradients[-count:])
    for one, other in zip(gradients, others):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


# --- mixed precision -----------------------------------------------------------------------------


@pytest.mark.slow
def test_mixed_precision_leaves_the_students_losses_as_they_are(shapes, tmp_path, teacher):
    changes = {'optim_wrapper.type': 'mmkd.BFloat16OptimWrapper',
               'optim_wrapper.channels_last': False}
    found = {way: train(run_of(way, shapes, tmp_path / way, teacher, **changes))[1].losses
             for way in ('plain', 'model', 'hook')}
    full = train(run_of('model', shapes, tmp_path / 'full', teacher))[1].losses
    assert found['model'] == found['hook']
    plain, distilled = found['plain'][0], found['model'][0]
    for name in ('loss_cls', 'loss_bbox'):
        assert distilled[name] == plain[name] != full[0][name]
    assert distilled['loss_cls_dist'] == pytest.approx(full[0]['loss_cls_dist'], rel=0.1)
    assert distilled['loss_cls_dist'] != full[0]['loss_cls_dist']


@pytest.mark.parametrize('channels_last', [True, False])
def test_bfloat16_keeps_weights_and_optimizer_in_float32(shapes, tmp_path, teacher,
                                                         channels_last):
    seen = []

    class Seeing(Hook):

        def before_train(self, runner):
            convolution = runner.model.backbone.conv1
            self.handle = convolution.register_forward_hook(
                lambda module, inputs, output: seen.append(
                    (runner.model.training, output.dtype,
                     module.weight.is_contiguous(memory_format=torch.channels_last))))

    config = run_of('model', shapes, tmp_path, teacher, **{
        'optim_wrapper.type': 'mmkd.BFloat16OptimWrapper',
        'optim_wrapper.channels_last': channels_last, 'train_cfg.val_interval': 1})
    runner = Runner.from_cfg(config)
    runner.register_hook(Seeing())
    runner.train()
    assert {one[1] for one in seen if one[0]} == {torch.bfloat16}
    assert {one[1] for one in seen if not one[0]} == {torch.float32}  # validation
    assert seen[0][2] is channels_last
    saved = saved_at(tmp_path / 'epoch_1.pth')
    tensors = [*saved['state_dict'].values(), *(
        value for state in saved['optimizer']['state'].values() for value in state.values()
        if isinstance(value, torch.Tensor))]
    assert {one.dtype for one in tensors if one.is_floating_point()} == {torch.float32}


# --- averaged weights ----------------------------------------------------------------------------


def test_averaged_weights_are_those_by_hand(shapes, tmp_path, teacher):
    config = detector_config(
        shapes, distiller(retinanet(), teacher, DIST, NECK), str(tmp_path / 'run'),
        **{'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 9,
           'custom_hooks': [dict(type='EMAHook', momentum=0.25)]})
    runner, keep = train(config)
    averaged = next(one for one in runner.hooks if isinstance(one, EMAHook)).ema_model
    names = [name for name, _ in build(retinanet()).named_parameters()]
    assert [name for name, _ in averaged.module.named_parameters()] == names
    saved = saved_at(tmp_path / 'run' / 'epoch_2.pth')
    for name in names:
        expected = keep.weights[0][name]  # the first step copies the weights
        for weights in keep.weights[1:]:
            expected = 0.75 * expected + 0.25 * weights[name]
        torch.testing.assert_close(saved['state_dict'][name], expected)
    build(retinanet()).load_state_dict(saved['state_dict'], strict=True)
    before = saved_at(teacher['checkpoint'])['state_dict']
    for name, value in runner.model.teacher.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not keep.weights[0][names[0]].equal(keep.weights[-1][names[0]])


# --- activation checkpointing --------------------------------------------------------------------


def test_checkpointed_activations_change_no_loss_and_no_gradient(folder, teacher):
    found = []
    for with_cp in (False, True):
        student = retinanet()
        student['backbone'].update(with_cp=with_cp, norm_eval=True)
        model = prepared(distiller(student, teacher, DIST, NECK))
        found.append(steps(model, [images([0, 1])] * 2))
    assert found[0][0] == found[1][0]
    for plain, checkpointed in zip(found[0][1], found[1][1]):
        assert len(plain) == len(checkpointed)
        for one, other in zip(plain, checkpointed):
            torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_checkpointed_activations_under_the_hook(shapes, tmp_path, teacher):
    student = retinanet()
    student['backbone']['with_cp'] = True
    plain, hook, model = (
        train(run_of(way, shapes, tmp_path / f'{way}{number}', teacher, one))[1].losses
        for number, (way, one) in enumerate([('hook', retinanet()), ('hook', student),
                                             ('model', student)]))
    assert hook == model
    for one, other in zip(plain, hook):
        assert one == pytest.approx(other, rel=1e-6)


# --- synchronised batch norms --------------------------------------------------------------------


def test_converted_batch_norms_are_the_students_alone(folder, teacher):
    """In the order of a Runner: converted, then prepared. torch trains them only on GPUs."""
    losses = []
    for is_converted in (False, True):
        torch.manual_seed(2)
        model = build(distiller(retinanet(), teacher, DIST, NECK))
        if is_converted:
            model = convert_sync_batchnorm(model)
        model.init_weights()
        data = model.data_preprocessor(images([0, 1]), True)
        told = model.eval()(**data, mode='loss')
        losses.append({name: [float(one) for one in value] for name, value in told.items()})
    assert losses[0] == losses[1]
    assert losses[0]['loss_neck_mse'][0] > 0
    assert isinstance(model.backbone.bn1, nn.SyncBatchNorm)
    assert model.student.backbone.bn1 is model.backbone.bn1
    assert type(model.teacher.model.backbone.bn1) is nn.BatchNorm2d
    assert not any(isinstance(one, nn.SyncBatchNorm) for connectors in
                   model.distillation.side_modules.of('connectors').values()
                   for one in connectors.modules())


# --- torch.compile -------------------------------------------------------------------------------


@pytest.mark.slow
def test_compiled_training_under_the_hook(shapes, tmp_path, teacher, monkeypatch):
    """MMEngine would compile `train_step`; with a distillation it is not compiled, and a warning
    is logged.
    """
    said = []
    monkeypatch.setattr('mmkd.hooks.state.print_log', lambda text, *args: said.append(text))
    config = run_of('hook', shapes, tmp_path / 'hook', teacher)
    compiled = run_of('hook', shapes, tmp_path / 'hook2', teacher, compile=dict(backend='eager'))
    losses = train(config)[1].losses
    assert said == []
    assert losses == train(compiled)[1].losses
    assert '`compile` is ignored for a distilled student' in said[0]


@pytest.mark.slow
def test_compiled_loop_without_a_runner_trains_connectors(folder):
    plain, compiled = detector(folder), detector(folder)
    compiled.train_step = torch.compile(compiled.train_step, backend='eager')
    found = [steps(model, [images([0, 1])] * 2) for model in (plain, compiled)]
    assert found[0][0] == found[1][0]
    assert [len(one) for one in found[0][1]] == [len(one) for one in found[1][1]]
    assert len(found[0][1][0]) > len([*plain.student.parameters()])
    for one, other in zip(plain.distillation.trained_beside, compiled.distillation.trained_beside):
        assert torch.equal(one, other)


def test_compiled_parts_of_the_student_run_compiled(folder, teacher):
    """Also the neck, whose output is recorded. It is compiled once, with the same results."""
    graphs, runs = [], []

    def backend(graph, inputs):
        graphs.append(graph)

        def counted(*args):
            runs.append(graph)
            return graph(*args)

        return counted

    found = []
    for is_compiled in (False, True):
        model = prepared(distiller(retinanet(), teacher, DIST, NECK))
        if is_compiled:
            model.backbone.compile(backend=backend)
            model.neck.compile(backend=backend)
        found.append(steps(model, [images([0, 1])] * 3)[0])
    assert found[0] == found[1]
    assert (len(graphs), len(runs)) == (2, 6)


# --- loops without a Runner ----------------------------------------------------------------------


def test_loop_that_calls_forward_alone_must_train_the_connectors(folder):
    def loop(model, parameters):
        optimizer = torch.optim.SGD(parameters, lr=1e-3)
        for _ in range(3):
            data = model.data_preprocessor(images([0, 1]), True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    model = detector(folder)
    with pytest.raises(ValueError, match='10 of the 10 parameters.*in no optimizer.*train_step'):
        loop(model, list(model.parameters()))
    model = detector(folder)
    before = [one.detach().clone() for one in model.distillation.trained_beside]
    loop(model, [*model.parameters(), *model.distillation.trained_beside])
    assert not any(one.equal(two) for one, two in zip(before, model.distillation.trained_beside))


def test_mean_teacher_updates_inside_a_distributed_wrapper(tmp_path):
    """The wrapper's `train_step` does not call that of the Distiller."""
    def logs_of(is_wrapped):
        model = prepared(distiller(retinanet(), dict(type='mmkd.MeanTeacher', momentum=0.5),
                                   dict(type='mmkd.KDLoss', on='cls')))
        whole = MMDistributedDataParallel(model) if is_wrapped else model
        wrapper = Keeping(torch.optim.SGD(model.parameters(), lr=1e-2))
        return [{name: value.item() for name, value in whole.train_step(
            images([0, 1]), wrapper).items()} for _ in range(4)]

    plain = logs_of(False)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        wrapped = logs_of(True)
    finally:
        leave_group()
    for one, other in zip(plain, wrapped):
        assert one == pytest.approx(other, rel=1e-6)
    assert plain[3]['loss_cls_kd'] > 0


# --- a teacher's weights -------------------------------------------------------------------------


def test_teacher_weights_are_loaded_once_on_the_cpu(folder, teacher, tmp_path, monkeypatch):
    """With several processes and GPUs, no weights are loaded to the first GPU."""
    second = save_teacher(tmp_path / 'second.pth', retinanet(width=12))
    student = build(distiller(retinanet(), dict(
        type='mmkd.Committee', members=[dict(teacher), second]), DIST)).double()
    events, load, move = [], torch.load, nn.Module.to

    def loading(path, *args, **kwargs):
        events.append(('read', path.name, kwargs.get('map_location')))  # path is an open file
        return load(path, *args, **kwargs)

    def moving(module, *args, **kwargs):
        assert all(one.device.type == 'cpu' for one in module.parameters())
        events.append(('moved', type(module).__name__, args[0]))
        return move(module, *args, **kwargs)

    monkeypatch.setattr(torch, 'load', loading)
    monkeypatch.setattr(nn.Module, 'to', moving)
    student.init_weights()
    student.prepare()
    paths = [teacher['checkpoint'], second['checkpoint']]
    assert [one for one in events if one[0] == 'read'] == [('read', path, 'cpu') for path in paths]
    moved = [number for number, one in enumerate(events) if one[0] == 'moved' and
             one[1] == 'RetinaNet']
    assert len(moved) == 2
    assert all(events[number][2] == next(student.parameters()).device for number in moved)
    for number, path in zip(moved, paths):
        assert events.index(('read', path, 'cpu')) < number
