"""Recording is removed completely afterwards and affects only one instance."""
import pytest
import torch
from conftest import build, distiller, observe, retinanet
from torch import nn

from mmkd.points.recorder import recording


def test_records_calls_of_the_module_and_of_its_forward():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    with recording(model, ['0']) as seen:
        a = model[0](torch.ones(1, 2))
        b = model[0].forward(torch.ones(1, 2))
    assert [call.output.data_ptr() for call in seen['0']] == [a.data_ptr(), b.data_ptr()]
    assert all(call.args[0].tolist() == [[1, 1]] for call in seen['0'])


def test_forward_is_restored_after_an_error():
    model = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(RuntimeError, match='stop'), recording(model, ['0']) as seen:
        raise RuntimeError('stop')
    assert 'forward' not in model[0].__dict__
    model(torch.ones(1, 2))
    assert seen['0'] == []


def test_another_instance_of_the_class_is_not_recorded():
    one, other = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3))
    with recording(one, ['0']) as seen:
        other(torch.ones(1, 2))
    assert seen['0'] == []


def test_other_wrappers_are_kept():
    model = nn.Sequential(nn.Linear(2, 3))

    def theirs(x):
        return torch.full((1, 3), 7.)

    model[0].forward = theirs
    with recording(model, ['0']) as seen:
        model(torch.ones(1, 2))
    assert seen['0'][0].output.tolist() == [[7, 7, 7]]
    assert model[0].forward is theirs


def test_values_changed_in_place_are_copied_in_later_calls():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 4))
    x = torch.randn(5, 2)
    before, after = model[0](x), model(x)
    assert (before < 0).any()
    for is_training in (False, True):
        model.train(is_training)
        with recording(model, ['0', '2']) as seen:
            output = model(x)
    assert torch.equal(seen['0'][0].output, before)
    assert torch.equal(output, after)
    assert seen['2'][0].output is output  # nothing is copied unless necessary
    seen['0'][0].output.sum().backward()
    torch.testing.assert_close(model[0].weight.grad, x.sum(0).expand(3, 2))


@pytest.mark.parametrize('layer', ['bn1', 'bn2'])  # before a ReLU, and before the sum of a block
def test_norm_output_is_recorded_before_in_place_changes(layer):
    path = f'backbone.layer2.0.{layer}'
    model = build(distiller(retinanet(), dict(config=dict(
        default_scope='mmdet', model=retinanet()), checkpoint=None),
        dict(type='mmkd.MSELoss', on=path)))
    model.init_weights()
    model.eval()
    inputs, sides = torch.randn(1, 3, 64, 64), []
    for network in (model, model.teacher.model):
        norm, said = network.get_submodule(path), []
        nn.init.ones_(norm.weight)  # the scale of the last norm in a block starts at zero
        handle = norm.register_forward_hook(lambda module, args, out, said=said: said.append(
            out.clone()))
        network.extract_feat(inputs)
        handle.remove()
        sides.append(said[0])
    student, teacher = model.terms[0].levels(*observe(model, inputs))
    assert torch.equal(student[0], sides[0])
    assert torch.equal(teacher[0], sides[1])
    assert (sides[0] < 0).any()


def test_value_changed_only_in_training_is_refused():
    model = nn.Sequential(nn.Linear(2, 30), nn.Dropout(inplace=True)).eval()
    x = torch.randn(5, 2)
    with recording(model, ['0']):
        model(x)
    model.train()
    with pytest.raises(ValueError, match='the output of `0` of the Sequential is changed in place '
                                         'later in training'), recording(model, ['0']):
        model(x)
