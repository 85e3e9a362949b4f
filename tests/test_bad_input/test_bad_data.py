"""Batches with unusual sizes or labels: no objects, one pixel, empty batches, missing labels."""
import copy
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from catalogue import Parts, Row, refused, rows
from conftest import build, distiller, retinanet, segmentor, two_stage
from mmdet.structures import DetDataSample
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

KD = dict(type='mmkd.KDLoss', on='cls')
DIST = dict(type='mmkd.DISTLoss', on='cls')
HINT = dict(type='mmkd.MSELoss', on='neck')


def frozen(model: dict, scope: str = 'mmdet') -> dict:
    return dict(config=dict(default_scope=scope, model=model), checkpoint=None)


PAIRS: Dict[str, Callable[[], Tuple[str, dict, dict]]] = {
    'retinanet': lambda: ('mmdet', retinanet(), distiller(
        retinanet(), frozen(retinanet(width=12)), DIST, dict(KD, alpha=0.5), HINT)),
    'background': lambda: ('mmdet', retinanet(), distiller(
        retinanet(), frozen(retinanet(width=12)),
        dict(KD, alpha=0.5, replaces='background', per_anchor=True))),
    'faster': lambda: ('mmdet', two_stage(), distiller(
        two_stage(), frozen(two_stage(width=12)), DIST, dict(KD, on='rpn_cls', name='loss_rpn'))),
    'cascade': lambda: ('mmdet', two_stage('cascade-rcnn'), distiller(
        two_stage('cascade-rcnn'), frozen(two_stage('cascade-rcnn', width=12)), DIST)),
    'pspnet': lambda: ('mmseg', eval_norms(segmentor()), distiller(
        eval_norms(segmentor()), frozen(segmentor(width=12), 'mmseg'), DIST, dict(KD, on='aux'))),
    'valid': lambda: ('mmseg', eval_norms(segmentor()), distiller(
        eval_norms(segmentor()), frozen(segmentor(width=12), 'mmseg'), dict(DIST, region='valid'),
        dict(KD, region='valid', alpha=0.5))),
}


def eval_norms(model: dict) -> dict:
    """Return the model without padding to a fixed size, so that small images stay small."""
    return dict(model, data_preprocessor=dict(model['data_preprocessor'], size=None,
                                              size_divisor=1))


def boxes(height: int, width: int, number: int = 1) -> InstanceData:
    corners = torch.tensor([[0., 0., width, height]]).repeat(number, 1)
    return InstanceData(bboxes=corners, labels=torch.arange(number) % 3)


def detected(sizes: Sequence[Tuple[int, int]], objects: Sequence[int]) -> dict:
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for (height, width), number in zip(sizes, objects):
        inputs.append(torch.randint(0, 256, (3, height, width), generator=generator,
                                    dtype=torch.uint8))
        sample = DetDataSample(metainfo=dict(img_shape=(height, width), scale_factor=(1., 1.),
                                             ori_shape=(height, width)))
        sample.gt_instances = boxes(height, width, number)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def labelled(sizes: Sequence[Tuple[int, int]], labels: Sequence[int]) -> dict:
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for (height, width), label in zip(sizes, labels):
        inputs.append(torch.randint(0, 256, (3, height, width), generator=generator,
                                    dtype=torch.uint8))
        sample = SegDataSample(metainfo=dict(img_shape=(height, width)))
        sample.gt_sem_seg = PixelData(data=torch.full((1, height, width), label))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


Result = Dict[str, float]


def step(model: Any, data: dict) -> Tuple[Result, Dict[str, torch.Tensor]]:
    """Run one training step; return the log and the weights after the step."""
    torch.manual_seed(0)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    logged = model.train().train_step(copy.deepcopy(data), wrapper)
    return ({name: float(value) for name, value in logged.items()},
            {name: value.clone() for name, value in model.state_dict().items()})


def outcome(config: dict, scope: str, data: dict) -> Any:
    """Return the result of one training step, or the error that it raises."""
    torch.manual_seed(0)
    model = build(config, scope)
    model.init_weights()
    try:
        return step(model, data)
    except Exception as error:
        return error


ONE, TWO = [(64, 64)], [(64, 64)] * 2
BATCHES: List[Row] = [
    *(Row(f'{pair}: {name}', (pair, data)) for pair in ('retinanet', 'background', 'faster',
                                                        'cascade')
      for name, data in {
          'batch of one': detected(ONE, [1]),
          'no objects in one': detected(TWO, [0, 1]),
          'no objects at all': detected(TWO, [0, 0]),
          'images of 1x1': detected([(1, 1)] * 2, [1, 0]),
          'very different sizes': detected([(8, 200), (130, 40)], [1, 1]),
          'many objects': detected(TWO, [300, 0]),
          'nothing': detected([], [])}.items()),
    Row('retinanet: one pixel wide', ('retinanet', detected([(64, 1), (1, 64)], [1, 1]))),
    Row('retinanet: images of 2x2', ('retinanet', detected([(2, 2)] * 2, [1, 1]))),
    *(Row(f'{pair}: {name}', (pair, data)) for pair in ('pspnet', 'valid')
      for name, data in {
          'batch of one': labelled(ONE, [0]),
          'all is ignored': labelled(TWO, [255, 255]),
          'one image is ignored': labelled(TWO, [255, 3]),
          'images of 1x1': labelled([(1, 1)] * 2, [0, 1]),
          'images of 2x2': labelled([(2, 2)] * 2, [0, 255]),
          'one pixel wide': labelled([(64, 1)] * 2, [0, 1]),
          'very different sizes': labelled([(8, 90), (70, 40)], [0, 1]),
          'nothing': labelled([], [])}.items()),
]


@rows(BATCHES)
def test_batches_give_the_same_result_as_for_the_plain_model(row):
    """Where the plain student's losses are finite, the distilled ones are. Both raise the same
    error.
    """
    pair, data = row.input
    scope, plain, distilled = PAIRS[pair]()
    expected, found = outcome(plain, scope, data), outcome(distilled, scope, data)
    if isinstance(expected, Exception):
        assert type(found) is type(expected), (expected, found)
        assert str(found) == str(expected)
        return
    assert not isinstance(found, Exception), repr(found)
    assert set(expected[0]) <= set(found[0])
    terms = {name for name in found[0] if name.endswith(('_dist', '_kd', '_mse', 'loss_rpn'))}
    assert terms
    for name in terms:
        assert torch.tensor(found[0][name]).isfinite(), (name, found[0])
    for name, value in found[1].items():
        assert value.isfinite().all() or not expected[1][name].isfinite().all(), name


def changed(data: dict, change: Callable[[dict], None]) -> dict:
    data = copy.deepcopy(data)
    change(data)
    return data


def unlabelled(data: dict) -> None:
    for sample in data['data_samples']:
        sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4),
                                           labels=torch.zeros(0, dtype=torch.long))


def test_float_images_give_the_same_losses():
    data = detected(TWO, [1, 2])
    scope, _, distilled = PAIRS['retinanet']()
    as_floats = changed(data, lambda one: one.update(
        inputs=[image.float() for image in one['inputs']]))
    (one, _), (other, _) = (outcome(distilled, scope, batch) for batch in (data, as_floats))
    assert one == other


def test_nan_images_only_remove_the_terms():
    """The student's own losses are those without a teacher. The terms are left out."""
    data = changed(detected(TWO, [1, 1]), lambda one: one.update(
        inputs=[image.float() * float('nan') for image in one['inputs']]))
    scope, plain, distilled = PAIRS['retinanet']()
    expected, found = outcome(plain, scope, data), outcome(distilled, scope, data)
    if isinstance(expected, Exception):
        assert str(found) == str(expected)
    else:
        assert all(found[0][name] == 0 for name in found[0] if name.endswith(('_dist', '_kd')))


DEVICES = [
    Row('a device that is not there', 'cuda:99'),
    Row('meta', 'meta'),
]


@rows(DEVICES)
def test_device_fails_as_for_the_plain_model(row):
    _, plain, distilled = PAIRS['retinanet']()
    found = []
    for config in (plain, distilled):
        model = build(config)
        model.init_weights()
        try:
            found.append(next(model.to(row.input).parameters()).device)
        except Exception as error:
            found.append(str(error))
    assert found[0] == found[1]


def test_teacher_takes_the_precision_of_the_student():
    model = build(PAIRS['retinanet']()[2])
    model.init_weights()
    model.double()
    assert {p.dtype for p in model.teacher.model.parameters()} == {torch.float64}


CRITERIA = [
    Row('criterion: Dice of mmseg', dict(type='DiceLoss', use_sigmoid=False), ValueError,
        Parts("`replaces='background'`", 'DiceLoss, the loss of the student',
              'needs weights of positions', "; write `replaces='all'`")),
    Row('criterion: Tversky', dict(type='TverskyLoss'), ValueError,
        Parts("`replaces='background'`", 'TverskyLoss, the loss of the student',
              'needs weights of positions', "; write `replaces='all'`")),
    Row('criterion: cross entropy', dict(type='CrossEntropyLoss', avg_non_ignore=True)),
]


@rows(CRITERIA)
def test_background_needs_a_criterion_of_positions(row):
    student = eval_norms(segmentor())
    student['decode_head']['loss_decode'] = dict(row.input, loss_weight=1.)
    model = build(distiller(student, frozen(segmentor(width=12), 'mmseg'), dict(
        KD, alpha=0.5, replaces='background')), 'mmseg')
    model.init_weights()
    before = {name: value.clone() for name, value in model.named_parameters()}
    if row.error is None:
        assert step(model, labelled(TWO, [0, 3]))[0]['decode.loss_ce'] > 0
        return
    with refused(row):
        step(model, labelled(TWO, [0, 3]))
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_unpacked_views_are_refused():
    model = build(distiller(retinanet(), dict(frozen(retinanet(width=12)), view='weak'), KD))
    model.init_weights()
    with refused(Row('', None, ValueError, Parts(
            'the view `weak`', 'contain no views', 'a network needs', '; add it to '))):
        step(model, detected(ONE, [1]))
