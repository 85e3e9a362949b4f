"""Mistakes in extensions raise an error before the first batch, with what to write instead."""
import pytest
from conftest import build, distiller, retinanet, save_teacher, two_stage
from torch import nn

import mmkd
from mmkd.compare.vocabulary import PROVIDERS, SHARED
from mmkd.losses import LOSSES, DistillLoss


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp('t') / 't.pth', retinanet(channels=24))


def refused(student, teacher, entry, *parts, error=ValueError):
    def begin():
        build(distiller(student, teacher, entry)).init_weights()

    with pytest.raises(error) as info:
        begin()
    for part in parts:
        assert part in str(info.value), f'{part!r} is not in {info.value}'


def loss(compare, **attributes):
    LOSSES.classes.pop('OwnLoss', None)
    mmkd.MODELS.module_dict.pop('OwnLoss', None)
    kind = type('OwnLoss', (DistillLoss, ), dict(compare=compare, __module__='own', **attributes))
    LOSSES.register(kind)
    return dict(type='mmkd.OwnLoss', on='cls')


def connector(**methods):
    kind = type('Own', (mmkd.Connector, ), dict(methods, __module__='own'))
    mmkd.MODELS.register_module(module=kind, force=True)
    return dict(type='mmkd.MSELoss', on='neck', connector=dict(type='mmkd.Own'))


def test_unknown_name(teacher):
    def compare(self, student, teacher, weight=None, *, labls):
        return student.sum()

    refused(retinanet(), teacher, loss(compare), '`compare` of OwnLoss requires `labls`',
            'closest: `labels`', "@mmkd.provides('labls')")


def test_name_that_this_student_lacks(teacher):
    def compare(self, student, teacher, weight=None, *, labels):
        return student.sum()

    refused(retinanet(), teacher, dict(loss(compare), on='neck'), 'requires `labels`',
            "compare 'cls'")

    def of_maps(self, student, teacher, weight=None, *, label_map):
        return student.sum()

    refused(retinanet(), teacher, loss(of_maps), 'requires `label_map`', 'does not contain it')

    def further(self, student, teacher, weight=None, *, teacher_also):
        return student.sum()

    refused(retinanet(), teacher, loss(further), "write for instance also=['reg']")


def test_further_points_that_the_loss_names_itself(teacher):
    """A different number of levels, a missing point and an unknown point raise an error."""
    seen = []

    def compare(self, student, teacher, *, teacher_also, also_sigmoid):
        seen.append((teacher_also, also_sigmoid))
        return (student - teacher).square().mean()

    entry = dict(loss(compare, also=('cls', 'reg')), on='neck')
    build(distiller(retinanet(), teacher, entry)).init_weights()
    (cls, reg), sigmoid = seen[0]
    assert (cls.shape, reg.shape, sigmoid) == ((1, 27, 16, 16), (1, 36, 16, 16), [True, None])
    refused(retinanet(), teacher, dict(entry, on='backbone'), '`cls` in `also` has 5 '
            'levels', '`backbone` has 4', 'choose points with the same number')
    refused(retinanet(), teacher, dict(entry, also=['cls']), "`also=['cls']`", 'needs 2 further '
            'points', "['cls', 'reg']", 'or leave `also` out')
    refused(retinanet(), teacher, dict(entry, also=['cls', 'rge']), 'no point `rge`')


@pytest.mark.parametrize('read', [lambda context: context.batch.inputs.mean((1, 2, 3)),
                                  lambda context: len(context.batch.data_samples)])
@pytest.mark.parametrize('levels', ['each', 'all'])
def test_custom_value_is_skipped_in_the_dry_run(teacher, read, levels):
    """The value is not computed for the blank image, which has no samples."""
    from loops import images

    def compare(self, student, teacher, *, own):
        assert own is not None
        return sum(((s - t).square().mean() for s, t in zip(student, teacher)))

    mmkd.provides('own', per_level=False)(read)
    try:
        model = build(distiller(retinanet(), teacher, loss(compare, levels=levels)))
        model.init_weights()
        losses = model(**model.data_preprocessor(images((0, 1)), True), mode='loss')
    finally:
        del PROVIDERS['own']
        SHARED.discard('own')
    assert all(one > 0 for one in losses['loss_cls_own'])


def test_optional_name_that_is_lacking_is_none(teacher):
    seen = []

    def compare(self, student, teacher, weight=None, *, labels=None):
        seen.append(labels)
        return (student - teacher).square().mean()

    model = build(distiller(retinanet(), teacher, dict(loss(compare), on='neck')))
    model.init_weights()
    from loops import images
    data = model.data_preprocessor(images((0, 1)), True)
    seen.clear()
    model(**data, mode='loss')
    assert seen == [None] * 5


def test_loss_that_is_not_a_scalar(teacher):
    def compare(self, student, teacher):
        return dict(a=student.sum(), b=student)

    refused(retinanet(), teacher, loss(compare), 'a scalar, or a dict of named scalars',
            "'b': Tensor of shape", error=TypeError)


def test_channels_that_do_not_fit(teacher):
    refused(retinanet(), teacher, dict(type='mmkd.MSELoss', on='neck', connector=None),
            '16 and 24 channels', "write `connector='auto'`")


def test_loss_that_needs_equal_channels_but_does_not_say_so(teacher):
    def compare(self, student, teacher):
        return (student - teacher).square().mean()

    entry = dict(loss(compare, must_match=frozenset({'positions'})), on='neck')
    refused(retinanet(), teacher, entry, 'OwnLoss fails', 'the student has 16 channels, the '
            "teacher 24; as `must_match` lacks 'channels' there is no connector: add it, or make "
            'a layer in `setup`')


def test_loss_that_fails_for_another_reason(teacher):
    def compare(self, student, teacher):
        raise RuntimeError('of another kind')

    refused(retinanet(), teacher, dict(loss(compare), on='neck'), 'of another kind; check that its '
            '`compare` works with one image')


def test_connector_with_other_channels(teacher):
    def setup(self, student_channels, teacher_channels):
        self.layer = nn.Conv2d(student_channels, 7, 1)

    refused(retinanet(), teacher, connector(setup=setup, forward=lambda self, x: self.layer(x)),
            'Own returns 7 channels at level 0', '`neck` of the teacher has 24',
            'the number of channels that its `setup` receives')


def test_connector_with_an_unknown_argument(teacher):
    def setup(self, student_channels, teacher_channels, *, scale):
        pass

    refused(retinanet(), teacher, connector(setup=setup, forward=lambda self, x: x),
            '`setup` of Own requires `scale`', 'only `stride`, `level` can be requested')

    def forward(self, x, *, techer):
        return x

    refused(retinanet(), teacher, connector(
        setup=lambda self, student_channels, teacher_channels: None, forward=forward),
        '`forward` of Own requires `techer`', 'closest: `teacher`')


def test_connector_that_returns_no_tensor(teacher):
    refused(retinanet(), teacher, connector(
        setup=lambda self, student_channels, teacher_channels: None,
        forward=lambda self, x: [x]), 'Own must return a tensor, but returned '
                                      'list', error=TypeError)


def test_region_of_another_shape(teacher):
    class Flat(mmkd.Region):

        def weigh(self, student, teacher):
            return [one.mean((1, 2, 3)) for one in student]

    mmkd.MODELS.register_module(module=Flat, force=True)
    refused(retinanet(), teacher, dict(type='mmkd.MSELoss', on='neck', region=dict(
        type='mmkd.Flat')), 'Flat must return a list of weights of the positions',
        'return one tensor for each level from its `weigh`', error=TypeError)


def test_region_for_a_loss_without_weights(teacher):
    def compare(self, student, teacher):
        return (student - teacher).square().mean()

    refused(retinanet(), teacher, dict(loss(compare), region=dict(type='mmkd.Foreground')),
            'OwnLoss does not support weights of positions', 'leave out `region`')


def test_loss_that_communicates_where_a_process_may_skip_it(tmp_path):
    def compare(self, student, teacher):
        return (student - teacher).square().mean()

    cascade = two_stage('cascade-rcnn')
    teacher = save_teacher(tmp_path / 't.pth', two_stage('cascade-rcnn', width=12))
    refused(cascade, teacher, loss(compare, communicates=True),
            'OwnLoss exchanges tensors between processes', 'a cascade, which may stop',
            'choose another point')


def test_incomplete_family(teacher):
    class Forgetful(mmkd.ModelFamily):
        family = 'what forgets'

        @staticmethod
        def fits(model):
            return getattr(model, 'is_forgotten', False)

        @staticmethod
        def points(model):
            return dict(cls=mmkd.Point('cls', ('bbox_head', ), mmkd.tensors_of, use_sigmoid=True,
                                       num_classes=3, num_named=3))

    mmkd.FAMILIES.register_module(module=Forgetful, force=True)
    try:
        student = build(retinanet())
        student.is_forgotten = True
        refused(student, teacher, dict(type='mmkd.KDLoss', on='cls'),
                'Forgetful fits the student, but does not define `predict`')
        Forgetful.predict = staticmethod(lambda *args, **kwargs: None)
        Forgetful.__abstractmethods__ = frozenset()
        refused(student, teacher, dict(type='mmkd.KDLoss', on='cls'),
                '`cls` of the student was not computed', '`bbox_head` does not run')
        refused(student, teacher, dict(type='mmkd.KDLoss', on='heat'),
                'no point `heat` in the student', 'its points are `cls`')
    finally:
        del mmkd.FAMILIES._module_dict['Forgetful']


def test_value_by_position(teacher):
    def compare(self, student, teacher, labels):
        return student.sum()

    refused(retinanet(), teacher, loss(compare), '`compare` of OwnLoss has `labels` as a '
            'positional parameter', 'write `*` before `labels`', error=TypeError)


def test_incomplete_loss(teacher):
    entry = loss(lambda self, student, teacher: None)
    refused(retinanet(), teacher, entry, 'OwnLoss returned None', 'a scalar', error=TypeError)
    entry = loss(lambda self, student, teacher: student.sum(), __init__=lambda self: None)
    refused(retinanet(), teacher, entry, '`__init__` of OwnLoss', '`super().__init__()`',
            error=TypeError)
    LOSSES.classes.pop('OwnLoss')
    LOSSES.register(type('OwnLoss', (DistillLoss, ), dict(__module__='own')))
    refused(retinanet(), teacher, dict(type='mmkd.OwnLoss', on='cls'), 'OwnLoss does not define '
            '`compare`', error=TypeError)


@pytest.mark.parametrize(('attributes', 'parts'), [
    (dict(levels='al'), ('`levels` of OwnLoss', "'each' or 'all'", "got 'al'")),
    (dict(layers_in='half'), ('`layers_in` of OwnLoss', "'float32' or 'autocast'")),
    (dict(must_match={'channel'}), ('`must_match` of OwnLoss', "'channels' and 'positions'"))])
def test_attribute_of_a_loss(teacher, attributes, parts):
    entry = loss(lambda self, student, teacher: student.sum(), **attributes)
    refused(retinanet(), teacher, entry, *parts, error=TypeError)
