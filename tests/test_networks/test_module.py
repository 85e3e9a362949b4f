"""ModuleTeacher: any module as a teacher of features. Its input, its points, and its files."""
import os
import sys
import types

import pytest
import torch
from conftest import build, detector_config, distiller, observe, retinanet, saved_at, train
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from support.modules import Block, Detector, TinyFPN, TinyViT
from support.neighbours import needs
from torch import nn
from torch.nn.functional import interpolate

from mmkd import ModuleTeacher
from mmkd.networks.libraries import Built
from mmkd.points import PlainModel, family_of, find_point
from mmkd.points.families.plain import ToSize
from mmkd.points.layout import Layout
from mmkd.points.recorder import Call

PIXELS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
VIT = dict(type='mmkd.ModuleTeacher', build='support.modules.TinyViT', checkpoint=None, points=dict(
    last=dict(path='blocks.1', layout='NLC', extra_tokens=1, stride=16)), **PIXELS)
FPN = dict(type='mmkd.ModuleTeacher', build='support.modules.TinyFPN', checkpoint=None, **PIXELS)


def mse(student, teacher, **entry):
    return dict(type='mmkd.MSELoss', on=dict(student=student, teacher=teacher), **entry)


def prepared(teacher, *entries, **student):
    model = build(distiller(retinanet(**student), teacher, *(entries or [mse('neck', 'output')])))
    model.prepare()
    return model


def refused(message, teacher, *entries, kind=ValueError):
    with pytest.raises(kind, match=message):
        prepared(teacher, *entries)


# --- layouts --------------------------------------------------------------------------------------


def image_call(given, seen=None):
    return Call((torch.zeros(1, 3, *given), ), torch.zeros(1, 3, *(seen or given)))


def test_tokens_become_a_map_row_by_row():
    """Two extra tokens, then the patches of a 32x48 image from left to right."""
    tokens = torch.tensor([-1., -2, 0, 1, 2, 10, 11, 12]).view(1, 8, 1).repeat(1, 1, 2)
    tokens[..., 1] += 100
    found, = Layout('NLC', 2, (16, 16)).maps([tokens], image_call((32, 48)), 'point')
    rows = torch.tensor([[0., 1, 2], [10, 11, 12]])
    assert torch.equal(found, torch.stack([rows, rows + 100])[None])


@pytest.mark.parametrize(('count', 'size'), [(6, (2, 3)), (12, (3, 4))])
def test_patches_at_the_border_may_be_dropped_or_padded(count, size):
    found, = Layout('NLC', 0, (16, 16)).maps([torch.zeros(1, count, 5)], image_call((40, 56)), '')
    assert found.shape == (1, 5, *size)


def test_patches_need_not_be_square():
    tokens = torch.arange(8.).view(1, 8, 1)
    found, = Layout('NLC', 0, (8, 16)).maps([tokens], image_call((32, 32)), '')
    assert torch.equal(found[0, 0], torch.tensor([[0., 1], [2, 3], [4, 5], [6, 7]]))


def test_channels_last_come_second():
    level = torch.arange(12.).view(1, 2, 3, 2)
    found, = Layout('NHWC').maps([level], image_call((32, 48)), '')
    assert torch.equal(found[0, 1], torch.tensor([[1., 3, 5], [7, 9, 11]]))


def test_map_of_a_resized_image_is_resized_to_the_stride():
    level = torch.rand(1, 4, 14, 14)
    found, = Layout().maps([level], image_call((128, 192), (224, 224)), '')
    assert torch.equal(found, interpolate(level, (8, 12), mode='bilinear'))  # stride 16 as before
    vector = torch.rand(1, 7)
    assert Layout().maps([vector], image_call((128, 192), (224, 224)), '')[0] is vector


def test_tokens_that_do_not_fit_the_image_are_refused():
    with pytest.raises(ValueError, match=r'`last` returns 8 tokens for an image of 32x48 pixels, '
                       r'but patches of 16x16 give 2x3 = 6 tokens, and `extra_tokens=1`; correct '
                       '`stride`, or write `extra_tokens=2`'):
        Layout('NLC', 1, (16, 16)).maps([torch.zeros(1, 8, 5)], image_call((32, 48)), 'last')


def test_images_are_resized_only_where_they_must_be():
    images = torch.rand(1, 3, 30, 45)
    assert ToSize()(images) is images
    assert ToSize(None, (14, 14))(images).shape[2:] == (28, 42)  # nearest multiples
    assert ToSize(None, (15, 15))(images) is images
    assert ToSize(None, (64, 64))(images).shape[2:] == (64, 64)  # at least one patch
    assert ToSize((24, 24))(images).shape[2:] == (24, 24)


# --- output of the teacher ------------------------------------------------------------------------


def test_tokens_of_a_block_are_compared_as_a_map():
    model = prepared(VIT, mse('neck', 'last'))
    match, = model.terms
    assert match.fitting.shapes == ([(1, 16, 8, 8)], [(1, 12, 8, 8)])  # P4 of the five levels
    assert match.fitting.strides[1] == [(16, 16)]
    images = torch.randn(2, 3, 64, 96)
    _, told = observe(model, images)
    (answer, ), = [list(one.values()) for one in told.values()]
    module = model.teacher.model.module
    with torch.no_grad():
        x = module.patch_embed(images)
        x = (x + interpolate(module.positions, x.shape[2:], mode='bilinear')).flatten(2)
        x = torch.cat([module.cls_token.expand(2, -1, -1), x.transpose(1, 2)], 1)
        x = module.blocks(x)
    for row in range(4):
        for column in range(6):
            torch.testing.assert_close(answer.levels[0][:, :, row, column],
                                       x[:, 1 + 6 * row + column])


def test_levels_in_a_dict_come_in_order():
    match, = prepared(FPN).terms
    assert match.fitting.shapes[1] == [(1, 12, 16, 16), (1, 12, 8, 8), (1, 12, 4, 4)]


def test_a_part_may_have_its_channels_last():
    teacher = dict(FPN, points=dict(c5=dict(path='last', layout='NHWC')))
    match, = prepared(teacher, mse('neck', 'c5')).terms
    assert match.fitting.shapes[1] == [(1, 12, 4, 4)]


def test_channels_last_are_not_taken_for_height():
    """(1, 4, 5, 12) for an image of 128x160 has 12 channels, not 4."""
    refused(r"`last` of the teacher returns \(1, 4, 5, 12\) .* is NHWC, not NCHW; write points=.*"
            "path='last', layout='NHWC'", FPN, mse('neck', 'last'))
    refused('is NCHW, not NHWC', dict(FPN, points=dict(p=dict(path='down.0', layout='NHWC'))))


def test_parts_are_named_by_their_paths_too():
    match, = prepared(FPN, mse('backbone.layer3', 'down.0')).terms
    assert match.fitting.shapes[1] == [(1, 12, 8, 8)]


def test_a_part_is_called_where_the_module_takes_no_images():
    teacher = dict(FPN, build='support.modules.Detector', run='backbone')
    match, = prepared(teacher, mse('neck', 'backbone')).terms
    assert len(match.fitting.shapes[1]) == 3
    refused('does not run on images: AssertionError; write `run=`', dict(teacher, run=None))
    refused('`teacher.run`: Detector has no module `bakbone` .closest: `backbone`',
            dict(teacher, run='bakbone'))


def test_teacher_gets_its_own_normalisation():
    """The student takes RGB like mmdet's ResNets, the teacher values from 0 to 1."""
    teacher = dict(FPN, mean=[0., 0, 0], std=[255., 255, 255])
    model = prepared(teacher)
    pixels = torch.randint(0, 256, (1, 3, 64, 64)).float()
    known = model.student.data_preprocessor
    seen = model.teacher.renormalize((pixels - known.mean) / known.std)
    torch.testing.assert_close(seen, pixels / 255)
    bgr = prepared(teacher)
    bgr.student.data_preprocessor._channel_conversion = False
    bgr.teacher.prepare(bgr.student)
    seen = bgr.teacher.renormalize((pixels.flip(1) - known.mean) / known.std)
    torch.testing.assert_close(seen, pixels / 255)
    came = []
    model.teacher.model.module.register_forward_pre_hook(lambda module, args: came.append(args[0]))
    observe(model, (pixels - known.mean) / known.std)
    # the second input is noise, to find idle modules
    torch.testing.assert_close(came[0], pixels / 255)


def test_module_of_a_fixed_size_gets_resized_images():
    teacher = dict(VIT, arguments=dict(any_size=False), input_size=64)
    model = prepared(teacher, mse('neck', 'last'))
    images = torch.randn(1, 3, 64, 128)
    _, told = observe(model, images)
    (answer, ), = [list(one.values()) for one in told.values()]
    assert answer.levels[0].shape == (1, 12, 4, 8)
    # Without `input_size` images are not resized, and the module's own error is shown.
    refused('does not run on images: ValueError: images of 64 pixels alone.*`input_size=`',
            dict(teacher, input_size=None), mse('neck', 'last'))


def test_idle_modules_do_not_run():
    model = prepared(dict(VIT, points=dict(first=dict(VIT['points']['last'], path='blocks.0'))),
                     mse('neck', 'first'))
    ran = []
    module = model.teacher.model.module
    module.blocks[0].register_forward_hook(lambda *args: ran.append('blocks.0'))
    module.blocks[1].mlp.register_forward_hook(lambda *args: ran.append('blocks.1'))
    for _ in range(3):
        observe(model, torch.randn(1, 3, 64, 64))
    assert ran.count('blocks.0') == 3
    assert ran.count('blocks.1') <= 1  # once, for the shape of its output


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize(('teacher', 'entry'), [
    (VIT, mse('neck', 'last')), (FPN, mse('neck', 'output'))])
def test_student_trains_and_its_checkpoint_is_plain(shapes, tmp_path, teacher, entry):
    config = detector_config(shapes, distiller(retinanet(), teacher, entry), str(tmp_path))
    runner, losses = train(config)
    name = next(name for name in losses[0] if name.endswith('_mse'))
    assert len(losses) == 2
    assert all(0 < one[name] < float('inf') for one in losses)
    model = runner.model
    network = model.distillation.networks['teacher'].model
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
    trained = {id(p) for group in runner.optim_wrapper.param_groups for p in group['params']}
    assert trained.isdisjoint(id(p) for p in network.parameters())
    saved = saved_at(tmp_path / 'epoch_1.pth')
    assert saved['state_dict'].keys() == build(retinanet()).state_dict().keys()
    origin = saved['meta']['mmkd']['networks']['teacher']
    assert (origin['type'], origin['build']) == ('ModuleTeacher', teacher['build'])
    assert len(origin['random_weights']) == 16


def test_images_without_labels_have_the_feature_term_alone(shapes, tmp_path):
    model = dict(distiller(retinanet(), VIT, mse('neck', 'last')), unlabelled=shapes)
    _, losses = train(detector_config(shapes, model, str(tmp_path / 'run')))
    assert all(one['unlabelled.loss_neck_mse'] > 0 for one in losses)
    assert {name for name in losses[0] if name.startswith('unlabelled')} == {
        'unlabelled.loss_neck_mse'}


def test_the_teacher_does_not_change_while_the_student_trains(shapes, tmp_path):
    from mmengine.runner import Runner
    runner = Runner.from_cfg(detector_config(shapes, distiller(
        retinanet(), FPN, mse('neck', 'output')), str(tmp_path), val_cfg=None, val_dataloader=None,
        val_evaluator=None))
    runner.model.prepare()
    network = runner.model.teacher.model
    before = {key: value.clone() for key, value in network.state_dict().items()}
    runner.train()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_weights_are_read(tmp_path, ending):
    weights = TinyFPN().state_dict()
    path = str(tmp_path / f'teacher.{ending}')
    if ending == 'pth':
        torch.save(weights, path)
    else:
        pytest.importorskip('safetensors.torch').save_file(weights, path)
    teacher = prepared(dict(FPN, checkpoint=path)).teacher
    assert all(torch.equal(value, weights[key])
               for key, value in teacher.model.module.state_dict().items())
    origin = teacher.provenance()
    assert origin['checkpoint'] == os.path.basename(path)
    assert len(origin['checkpoint_hash']) == 64
    assert 'random_weights' not in origin


def test_weights_of_another_module_are_refused(tmp_path):
    torch.save(TinyFPN(width=8).state_dict(), tmp_path / 'other.pth')
    refused(r'other.pth` does not fit its `build` \(TinyFPN\): .*with other shapes',
            dict(FPN, checkpoint=str(tmp_path / 'other.pth')))
    refused('no teacher checkpoint at', dict(FPN, checkpoint=str(tmp_path / 'gone.pth')),
            kind=FileNotFoundError)


class Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ['MMKD_HOSTILE'], )


def test_a_pickle_that_runs_code_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setenv('MMKD_HOSTILE', str(tmp_path / 'ran'))
    torch.save(dict(state_dict=TinyFPN().state_dict(), more=Hostile()), tmp_path / 'hostile.pth')
    refused('contains more than weights and was not opened',
            dict(FPN, checkpoint=str(tmp_path / 'hostile.pth')))
    assert not (tmp_path / 'ran').exists()


def test_a_checkpoint_left_out_is_an_error():
    entry = {key: value for key, value in FPN.items() if key != 'checkpoint'}
    refused('`support.modules.TinyFPN` has no `checkpoint`; write .*`checkpoint=None` for random',
            entry)


# --- mistakes -------------------------------------------------------------------------------------


def test_the_log_says_when_images_are_resized(monkeypatch):
    """Images whose size is a multiple already are not."""
    module, said = sys.modules[ModuleTeacher.__module__], []
    monkeypatch.setattr(module, 'print_log', lambda text, *_: said.append(text))
    monkeypatch.setattr(module, 'build_module', lambda *_: Built(TinyViT(), patch=(16, 16)))
    prepared(VIT, mse('neck', 'last'))
    text, = (one for one in said if one.startswith('The teacher is `support.modules.TinyViT`'))
    assert text.endswith('; images are resized to multiples of 16x16 if needed')


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(build='tim:vit'), r'does not support the library `tim` \(closest: `timm`\)'),
    (dict(build='TinyFPN'), "not a dotted path; write 'package.module.function', .* "
                            "'timm:TinyFPN'"),
    (dict(build='support.modules.TinyFNP'), r'no function or class `TinyFNP` \(closest: `TinyFPN`'),
    (dict(build='suport.modules.TinyFPN'), '`suport.modules` of .* cannot be imported'),
    (dict(build='support.modules.not_a_module'), 'must return a torch.nn.Module with parameters, '
                                                 'but returned int'),
    (dict(mean=None), 'the image normalisation of `support.modules.TinyFPN` is not known; wr'),
    (dict(mean=[.485, .456, .406]), r'from 0 to 255, but .* write mean=\[123.675, 116.28, 103.53'),
    (dict(std=[58., 0., 57.]), '`teacher.std` must be greater than 0'),
    (dict(mean=[1., 2.]), 'must be a list of 1 or 3 numbers'),
    (dict(input_size='large'), '`teacher.input_size` must be one number'),
    (dict(points=dict(fpn='dwon.0')), r'point `fpn` .* has no module `dwon.0` \(closest: `down.0`'),
    (dict(points=dict(p=dict(path='down.0', layout='NLC'))), 'size of a patch .* stride=16'),
    (dict(points=dict(p=dict(path='down.0', layout='CHW'))), '`layout` of the point `p` must be'),
    (dict(points=dict(p=dict(path='down.0', extra_tokens=1))), "or write layout='NLC'"),
    (dict(points=dict(p=dict(path='down.0', layout='NLC', stride=8))), 'correct `layout`'),
    (dict(points=dict(p='unused')), '`p` of the teacher does not run when the module is called'),
])
def test_a_mistake_is_named_before_training(changes, message):
    refused(message, dict(FPN, **changes))


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(build=7), "must be 'timm:NAME'"),
    (dict(arguments=[1]), '`teacher.arguments` must be a dict'),
    (dict(arguments=dict(widht=4)), r'no argument `widht` \(closest: `width`\)'),
    (dict(points=dict(p=dict(pth='down.0'))), r'no argument `pth` \(closest: `path`\)'),
    (dict(points={'a:b': 'down.0'}), 'without a colon'),
])
def test_what_is_of_the_wrong_kind_is_named(changes, message):
    refused(message, dict(FPN, **changes), kind=TypeError)


def test_points_that_are_not_there_or_do_not_fit_are_named():
    refused('no point `fpm` in the teacher .*closest: `fpn`', dict(FPN, points=dict(fpn='')),
            mse('neck', 'fpm'))
    refused(r"`blocks.1` returns \(1, \d+, 12\).* tokens \(N, L, C\), write points=.*layout='NLC'",
            VIT, mse('neck', 'blocks.1'))
    wrong = dict(VIT, points=dict(last=dict(VIT['points']['last'], extra_tokens=0)))
    refused(r'`last` returns 81 tokens for an image of 128x160 .*write `extra_tokens=1`', wrong,
            mse('neck', 'last'))
    refused("16 and 12 channels; write `connector=.auto",
            FPN, mse('neck', 'output', connector=None))
    wordy = dict(FPN, build='support.modules.Wordy')
    refused(r"no point `output` in the teacher: .*\['Tensor', 'str'\]", wordy)
    assert prepared(wordy, mse('neck', 'stem')).terms


def test_module_with_other_input_channels_is_refused():
    teacher = dict(FPN, build='torch.nn.Conv2d',
                   arguments=dict(in_channels=4, out_channels=3, kernel_size=8, stride=8))
    refused('has 3 values, but its first layer takes images of 4 channels', teacher)


def test_family_accepts_no_other_model():
    """The error for another student lists the supported families."""
    with pytest.raises(ValueError, match='a Sequential; it supports .*single-stage detectors of '
                                         'mmdet.*mmkd.ModuleTeacher'):
        family_of(nn.Sequential(nn.Conv2d(3, 3, 1)), 'student')
    assert family_of(build(retinanet())).family.startswith('single-stage')
    plain = PlainModel(Detector(), ImgDataPreprocessor())
    assert 'ModuleTeacher' in family_of(plain).family


# --- libraries ------------------------------------------------------------------------------------


def library(name):
    """Import an optional package; skip the test if it is missing or does not fit torch."""
    needs(name)
    return sys.modules[name]


def test_timm_transformer_needs_only_its_name():
    library('timm')
    teacher = dict(type='mmkd.ModuleTeacher', build='timm:vit_tiny_patch16_224', checkpoint=None,
                   arguments=dict(depth=2, embed_dim=12))
    model = prepared(teacher, mse('neck', 'blocks.1'))
    assert model.terms[0].fitting.shapes[1] == [(1, 12, 8, 8)]
    assert model.teacher.model.image.size is None  # position embeddings are interpolated
    assert model.teacher.provenance()['mean'] == [127.5, 127.5, 127.5]
    refused(r'timm has no model `vit_tiny_patch16_242` \(closest: `vit_tiny_patch16_224`',
            dict(teacher, build='timm:vit_tiny_patch16_242'))
    refused('mmkd does not download weights', dict(teacher, arguments=dict(pretrained=True)))


@pytest.mark.parametrize(('name', 'patch', 'extra'), [
    ('vit_small_patch14_dinov2', 14, 1), ('vit_small_patch14_reg4_dinov2', 14, 5),
    ('vit_small_patch16_dinov3', 16, 5)])
def test_dino_teaches_images_that_its_patch_does_not_divide(name, patch, extra):
    """A 70x100 image is resized for the teacher; its last tokens, after the norm, are the map."""
    library('timm')
    model = prepared(
        dict(type='mmkd.ModuleTeacher', build=f'timm:{name}', checkpoint=None,
             arguments=dict(depth=1, embed_dim=12, num_heads=1)),
        mse('neck', 'backbone', connector='conv'))
    images = torch.randn(2, 3, 70, 100)
    _, told = observe(model, images)
    (answer, ), = [list(one.values()) for one in told.values()]
    rows, columns = round(70 / patch), round(100 / patch)
    module = model.teacher.model.module
    with torch.no_grad():
        tokens = module.forward_features(interpolate(
            images, (rows * patch, columns * patch), mode='bilinear', antialias=True))
    assert tokens.shape[1] == rows * columns + extra
    expected = tokens[:, extra:].transpose(1, 2).reshape(2, 12, rows, columns)
    assert answer.levels
    for level in answer.levels:
        torch.testing.assert_close(level, interpolate(
            expected, level.shape[2:], mode='bilinear'), rtol=1e-4, atol=1e-5)


def test_timm_network_of_a_fixed_size_gets_resized_images():
    library('timm')
    model = prepared(dict(
        type='mmkd.ModuleTeacher', build='timm:beit_base_patch16_224', checkpoint=None,
        arguments=dict(embed_dim=12, depth=1, num_heads=1)), mse('neck', 'blocks.0'))
    assert model.teacher.model.image.size == (224, 224)
    # stride 16 relative to the student's image
    assert model.terms[0].fitting.shapes[1] == [(1, 12, 8, 8)]


def test_stages_of_timms_swin_have_their_channels_last():
    library('timm')
    model = prepared(dict(
        type='mmkd.ModuleTeacher', build='timm:swin_tiny_patch4_window7_224', checkpoint=None,
        arguments=dict(embed_dim=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
        points=dict(stage=dict(path='layers.2', layout='NHWC'))), mse('neck', 'stage'))
    assert model.terms[0].fitting.shapes[1] == [(1, 48, 8, 8)]


def test_tokens_teach_although_the_stem_has_maps_of_more_sizes():
    library('timm')
    model = prepared(
        dict(type='mmkd.ModuleTeacher', build='timm:xcit_nano_12_p16_224', checkpoint=None),
        mse('backbone', 'backbone', connector='conv'))
    assert model.teacher.model.stages.paths == ('norm', )


@pytest.mark.parametrize('name', ['swin_t', 'swin_v2_t'])
def test_all_stages_of_torchvisions_swin_teach(name):
    library('torchvision')
    model = prepared(
        dict(type='mmkd.ModuleTeacher', build=f'torchvision:{name}', checkpoint=None),
        mse('backbone', 'backbone', connector='conv'))
    assert [shape[1:] for shape in model.terms[0].fitting.shapes[1]] == [
        (96, 32, 32), (192, 16, 16), (384, 8, 8), (768, 4, 4)]


def test_torchvision_detector_runs_only_its_backbone():
    library('torchvision')
    teacher = dict(type='mmkd.ModuleTeacher', build='torchvision:fasterrcnn_resnet50_fpn',
                   checkpoint=None)
    model = prepared(teacher, mse('neck', 'backbone'))
    assert [shape[1:] for shape in model.terms[0].fitting.shapes[1]][:3] == [
        (256, 16, 16), (256, 8, 8), (256, 4, 4)]
    assert model.teacher.provenance()['mean'] == pytest.approx(PIXELS['mean'])
    refused(r'torchvision.models has no model `resnet81` \(closest: `resnet18`',
            dict(teacher, build='torchvision:resnet81'))


def fake_library(monkeypatch, name, **contents):
    module = types.ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_a_library_that_is_missing_or_of_another_torch_is_named(monkeypatch, tmp_path):
    teacher = dict(FPN, build='timm:vit_tiny_patch16_224')
    monkeypatch.setitem(sys.modules, 'timm', None)
    refused('needs the package timm, which is not installed; run `pip install timm`', teacher)
    monkeypatch.delitem(sys.modules, 'timm')
    raised = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / 'timm.py').write_text(raised)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch, '__version__', '2.13.0+cpu')
    command = 'pip install torchvision --index-url https://download.pytorch.org/whl/cpu'
    refused(r'timm cannot be imported with torch 2.13.0\+cpu: RuntimeError: operator torchvision::'
            f'nms does not exist; install the build of torchvision .*: `{command}`', teacher)
    (tmp_path / 'timm.py').write_text('import torchvision')
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    refused(f'needs the package torchvision, which is not installed; run `{command}`', teacher)


class WithoutClassToken(Block):
    """A block that applies a module to the patches only."""

    def __init__(self, width):
        super().__init__(width)
        self.patches = nn.Identity()

    def forward(self, x):
        return torch.cat([x[:, :1], self.patches(x[:, 1:])], 1)


def test_settings_from_timm_are_used(monkeypatch):
    """Replaces timm: dynamic image size, normalisation, and the number of extra tokens."""
    asked = []

    class Patches(nn.Conv2d):
        patch_size, img_size = (16, 16), (64, 64)

    def create_model(name, pretrained, **arguments):
        asked.append((name, pretrained, arguments))
        if 'dynamic_img_size' in arguments and name == 'fixed':
            raise TypeError('unexpected keyword argument')
        module = TinyViT(any_size='dynamic_img_size' in arguments)
        module.patch_embed = Patches(3, 12, 16, 16)
        module.num_prefix_tokens = 1
        module.blocks[0] = WithoutClassToken(12)
        module.pretrained_cfg = dict(mean=(.5, .5, .5), std=(.2, .4, .6), input_size=(3, 64, 64))
        return module

    fake_library(monkeypatch, 'timm', create_model=create_model,
                 list_models=lambda: ['dynamic', 'fixed'])
    for name, size in (('dynamic', None), ('fixed', (64, 64))):
        model = prepared(dict(type='mmkd.ModuleTeacher', build=f'timm:{name}', checkpoint=None),
                         mse('neck', 'blocks.1'))
        assert model.teacher.model.image.size == size
        assert model.terms[0].fitting.shapes[1] == [(1, 12, 8, 8)]
        patches = find_point(model.teacher.model, 'blocks.0.patches')
        assert patches.layout == Layout('NLC', 0, (16, 16))
        assert model.teacher.provenance()['std'] == pytest.approx([51., 102., 153.])
    assert [one[1] for one in asked] == [False] * 3


def test_settings_from_a_transformers_folder_are_used(monkeypatch, tmp_path):
    class Config:
        architectures = ['TinyModel']
        image_size, patch_size = 64, 16

        @classmethod
        def from_pretrained(cls, folder, local_files_only):
            assert local_files_only
            if not os.path.isdir(folder):
                raise OSError('not cached')
            if 'config.json' in os.listdir(folder):
                raise ValueError('model type `new` is not recognized')
            return cls()

    class TinyModel(TinyViT):
        def __init__(self, config):
            super().__init__(size=config.image_size)

        def forward(self, pixel_values, interpolate_pos_encoding=False):
            assert interpolate_pos_encoding
            return super().forward(pixel_values)

        @classmethod
        def from_pretrained(cls, name, config, state_dict, output_loading_info):
            assert name is None
            own = {key.replace('layer.', 'blocks.'): one for key, one in state_dict.items()}
            model = cls(config)
            missing, unexpected = model.load_state_dict(own, strict=False)
            return model, dict(missing_keys=missing, unexpected_keys=unexpected)

    fake_library(monkeypatch, 'transformers', AutoConfig=Config, TinyModel=TinyModel)
    (tmp_path / 'preprocessor_config.json').write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    teacher = dict(VIT, build=f'transformers:{tmp_path}', mean=None, std=None)
    model = prepared(teacher, mse('neck', 'last'))
    assert model.teacher.provenance()['mean'] == [127.5, 127.5, 127.5]
    refused('is not on this machine: OSError: not cached; write the folder',
            dict(teacher, build='transformers:someone/something'), mse('neck', 'last'))
    (tmp_path / 'new').mkdir()
    (tmp_path / 'new' / 'config.json').write_text('{"model_type": "new"}')
    refused(r'cannot read the config.json of `transformers:.*`: ValueError: model type `new` is '
            r'not recognized; install the version that the file names \(`transformers_version`\)',
            dict(teacher, build=f'transformers:{tmp_path / "new"}'), mse('neck', 'last'))
    # Checkpoint files may have older parameter names.
    weights = {key.replace('blocks.', 'layer.'): one for key, one in TinyViT().state_dict().items()}
    teacher['checkpoint'] = str(tmp_path / 'model.pth')
    torch.save(weights, teacher['checkpoint'])
    module = prepared(teacher, mse('neck', 'last')).teacher.model.module
    assert torch.equal(module.blocks[1].mlp.weight, weights['layer.1.mlp.weight'])
    del weights['layer.1.mlp.weight']
    torch.save(weights, teacher['checkpoint'])
    refused(r'1 missing in the file \(blocks.1.mlp.weight\)', teacher, mse('neck', 'last'))


def test_it_can_be_a_member_of_a_committee():
    committee = dict(type='mmkd.Committee', members=[FPN, dict(FPN, arguments=dict(width=8))])
    model = prepared(committee)
    assert set(model.distillation.networks) == {'student', 'teacher.0', 'teacher.1'}


def test_entry_works_in_a_config_file():
    """MMEngine's Config converts dicts to its own type, and tuples to lists."""
    config = Config(dict(teacher=VIT))
    assert isinstance(prepared(config.teacher, mse('neck', 'last')).teacher, ModuleTeacher)
