"""Modules that do not contribute to the output are skipped, and the output is bitwise equal."""
import pytest
import torch
from conftest import build, distiller, observe, retinanet, save_teacher, segmentor, two_stage
from torch import nn

from mmkd.networks.idle import outermost, parts_of, standing_in
from mmkd.points.recorder import recording


def output_and_calls(model, image, watched):
    """Return the teacher's output at a known shape, and the number of calls of some modules."""
    observe(model, image)
    with recording(model.teacher.model, watched) as calls:
        _, told = observe(model, image)
    return told[''], {path: len(calls[path]) for path in watched}


def prepared(student, teacher, *entries):
    torch.manual_seed(0)
    model = build(distiller(student, teacher, *entries)).eval()
    model.init_weights()
    return model


ASKED = {
    'classes': (dict(type='mmkd.DISTLoss', on='cls'),
                ['bbox_head.reg_convs.0.conv', 'bbox_head.retina_reg'],
                ['bbox_head.cls_convs.0.conv', 'bbox_head.retina_cls']),
    'boxes': (dict(type='mmkd.MSELoss', on='reg'),
              ['bbox_head.cls_convs.0', 'bbox_head.retina_cls'],
              ['bbox_head.reg_convs.0']),
    'neck': (dict(type='mmkd.MSELoss', on='neck'), ['bbox_head'], ['neck.fpn_convs.0']),
    'a stage': (dict(type='mmkd.MSELoss', on='backbone.layer2'),
                ['backbone.layer3.0', 'backbone.layer4', 'neck', 'bbox_head'],
                ['backbone.layer2.0']),
}


@pytest.mark.parametrize(('entry', 'idle', 'busy'), ASKED.values(), ids=ASKED)
def test_dense_head_runs_only_used_branches(tmp_path, entry, idle, busy):
    model = prepared(retinanet(), save_teacher(tmp_path / 't.pth', retinanet(width=12)), entry)
    image = torch.randn(2, 3, 96, 64)
    told, calls = output_and_calls(model, image, idle + busy)
    assert [calls[path] for path in idle] == [0] * len(idle)
    assert min(calls[path] for path in busy) > 0
    model.teacher.runs_whole = True
    whole, calls = output_and_calls(model, image, [path for path in idle if path != 'bbox_head'])
    assert all(calls.values())
    point, = told
    assert all(map(torch.equal, told[point].levels, whole[point].levels))


def test_two_points_need_what_either_needs(tmp_path):
    model = prepared(retinanet(), save_teacher(tmp_path / 't.pth', retinanet(width=12)),
                     ASKED['classes'][0], ASKED['boxes'][0], ASKED['a stage'][0])
    both = ['bbox_head.retina_cls', 'bbox_head.retina_reg', 'backbone.layer4.0']
    _, calls = output_and_calls(model, torch.randn(1, 3, 64, 64), both)
    assert min(calls.values()) > 0
    model.terms[1].factor = 0.  # as if a schedule had stopped the boxes
    distillation = model.distillation
    inputs = torch.randn(1, 3, 64, 64)
    seen = {'student': distillation.probe.predicted('student', inputs)}
    for _ in range(2):
        with recording(model.teacher.model, both) as calls:
            distillation.ask(seen, inputs, None, [model.terms[0], model.terms[2]])
    assert [len(calls[path]) for path in both] == [5, 0, 1]


def test_auxiliary_head_of_a_segmentor_needs_no_last_stage(tmp_path):
    config = segmentor(classes=3)
    teacher = save_teacher(tmp_path / 't.pth', config, scope='mmseg')
    torch.manual_seed(0)
    model = build(distiller(config, teacher, dict(type='mmkd.DISTLoss', on='aux')), 'mmseg').eval()
    model.init_weights()
    _, calls = output_and_calls(model, torch.randn(2, 3, 64, 64),
                              ['backbone.layer3.0', 'backbone.layer4', 'decode_head'])
    assert list(calls.values()) == [1, 0, 0]


def test_box_offsets_at_rois_do_not_run_and_rare_layers_do(tmp_path):
    """The search for idle modules uses one large RoI; layers for small RoIs must still run."""
    model = prepared(two_stage(), save_teacher(tmp_path / 't.pth', two_stage(width=12)),
                     dict(type='mmkd.DISTLoss', on='cls'))
    network, point = model.teacher.model, model.terms[0].teacher_point
    image = torch.randn(1, 3, 256, 256)
    small, large = [0., 8., 8., 40., 40.], [0., 0., 0., 250., 250.]
    from mmkd.networks import Question
    question = {'': Question((point, ), torch.tensor([small, large]))}
    layers = [f'roi_head.bbox_roi_extractor.roi_layers.{i}' for i in range(4)]
    for _ in range(2):
        with recording(network, ['roi_head.bbox_head.fc_reg', *layers]) as calls:
            told = model.teacher.observe(image, None, question)
    assert [len(calls[layer]) for layer in layers] == [1, 0, 1, 0]
    assert not calls['roi_head.bbox_head.fc_reg']
    model.teacher.runs_whole = True
    whole = model.teacher.observe(image, None, question)
    assert torch.equal(told[''][point].levels[0], whole[''][point].levels[0])
    assert told[''][point].levels[0][0].abs().sum() > 0


class Hidden(nn.Module):
    """`chooses` affects the output without a gradient, `unused` not at all."""

    def __init__(self):
        super().__init__()
        self.chooses, self.unused, self.says = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.never = nn.Identity()

    def forward(self, x):
        order = self.chooses(x).detach().sum(0).argsort()
        self.unused(x)
        return self.says(x)[:, order]


def test_module_that_acts_without_a_gradient_is_needed():
    torch.manual_seed(1)
    model, x = Hidden().eval(), torch.randn(5, 4)
    parts = parts_of(model, lambda image: [model(x if image == 0 else -2 * x)])
    assert {'chooses', 'says'} <= parts.needed
    assert parts.idle == {'unused'}


def test_network_whose_search_fails_runs_completely():
    class HardToTrace(nn.Linear):
        def forward(self, x):
            if torch.is_grad_enabled():
                raise RuntimeError('no gradients here')
            return super().forward(x)

    model = nn.Sequential(HardToTrace(4, 4)).eval()
    assert parts_of(model, lambda image: [model(torch.ones(2, 4))]) is None


def test_new_shapes_run_once_and_modules_are_restored():
    model, seen, known = Hidden(), [], {}
    model.unused.register_forward_hook(lambda *args: seen.append(args[2].shape))
    shapes = [(2, 4), (3, 4), (2, 4), (3, 4)]
    with torch.no_grad(), standing_in(model, ['unused'], known):
        for shape in shapes:
            assert model.unused.forward(torch.ones(shape)).shape == shape
    assert len(known['unused']) == 2
    assert 'forward' not in vars(model.unused)
    assert all(one.untyped_storage().nbytes() == 4 for one in known['unused'].values())


def test_outermost():
    assert set(outermost(['a.b', 'a', 'c.d', 'c.e', 'cd'])) == {'a', 'c.d', 'c.e', 'cd'}


class HardToTrace(nn.Module):
    """Each kind has a part that a search with one image could wrongly consider idle."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.says, self.part = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        if self.kind == 'state':
            self.part.last = self.part(x).detach().mean()
            return self.says(x) + self.part.last
        if self.kind == 'in place':
            self.part.forward(nn.functional.relu_(x) if self.training else x)
            return self.says(x)
        if self.kind == 'chosen':
            other = self.part(x)
            return self.says(x) if x.mean() > 0 else other
        if self.kind == 'large images':
            return self.says(self.part(x)) if x.shape[-1] > 16 else self.says(x)
        return self.says(x) + (self.part(x).detach() > 1e3)


@pytest.mark.parametrize('kind', ['state', 'in place', 'chosen', 'large images'])
def test_networks_that_one_image_would_misjudge(kind):
    torch.manual_seed(0)
    model = HardToTrace(kind).eval()
    noise = torch.randn(1, 3, 8, 8)
    images = [noise - noise.mean() + 0.5, -3 * noise + noise.mean() - 0.5]
    parts = parts_of(model, lambda image: [model(images[image].clone())])
    idle, known = ({'part'} if parts is None else parts.idle), {}
    if kind in ('state', 'chosen'):
        assert not idle & {'part'} or parts is None
    for size in (8, 24, 8, 24):
        for sign in (1, -1):
            x = sign * torch.rand(1, 3, size, size)
            with torch.no_grad():
                whole = model(x.clone())
                with standing_in(model, set() if parts is None else parts.idle, known):
                    assert torch.equal(model(x.clone()), whole)
