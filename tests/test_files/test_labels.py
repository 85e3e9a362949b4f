"""A run stops if its labels do not have the meaning that its class names state."""
import copy
import json
import shutil

import pytest
from conftest import (
    CLASSES,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
    train,
)
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmkd.files.labels import (
    ZeroLabel,
    categories_of,
    check_label_order,
    check_zero_label,
    leaves_of,
    names_of_labels,
    zero_label_of_checkpoint,
    zero_labels_of_config,
    zero_labels_of_run,
)


@pytest.fixture(scope='module')
def renumbered(shapes, tmp_path_factory):
    """The `shapes` data set with annotation files whose categories are reversed or incomplete."""
    folder = tmp_path_factory.mktemp('reversed') / 'shapes'
    shutil.copytree(shapes, folder)
    content = json.loads((folder / 'instances.json').read_text())
    (folder / 'reversed.json').write_text(json.dumps(
        dict(content, categories=content['categories'][::-1])))
    (folder / 'fewer.json').write_text(json.dumps(
        dict(content, categories=[content['categories'][i] for i in (0, 2)],
             annotations=[one for one in content['annotations'] if one['category_id'] != 2])))
    (folder / 'first_two.json').write_text(json.dumps(
        dict(content, categories=content['categories'][:2],
             annotations=[one for one in content['annotations'] if one['category_id'] != 3])))
    return str(folder)


def coco(folder, file='reversed.json', classes=CLASSES, **others):
    return dict(dict(type='CocoDataset', data_root=folder, ann_file=file, pipeline=[],
                     metainfo=dict(classes=tuple(classes)), data_prefix=dict(img='')), **others)


def built(dataset, scope='mmdet'):
    from mmdet.utils import register_all_modules
    register_all_modules(False)
    with DefaultScope.overwrite_default_scope(scope):
        dataset = DATASETS.build(copy.deepcopy(dataset))
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    return dataset


def check(monkeypatch, dataset, classes=CLASSES, **arguments):
    monkeypatch.setattr('mmkd.files.labels.training_set', lambda: dataset)
    check_label_order(list(classes), **arguments)


WRAPPERS = {
    'alone': lambda good, bad: bad,
    'repeat': lambda good, bad: dict(type='RepeatDataset', times=2, dataset=bad),
    'class balanced': lambda good, bad: dict(type='ClassBalancedDataset', oversample_thr=0.1,
                                             dataset=bad),
    'second of a concatenation': lambda good, bad: dict(type='ConcatDataset', datasets=[good, bad]),
    'mixed images': lambda good, bad: dict(type='MultiImageMixDataset', pipeline=[], dataset=bad),
    'a nest': lambda good, bad: dict(type='RepeatDataset', times=1, dataset=dict(
        type='MultiImageMixDataset', pipeline=[], dataset=dict(
            type='ConcatDataset', datasets=[good, dict(type='RepeatDataset', times=2,
                                                       dataset=bad)]))),
    'lazy': lambda good, bad: dict(bad, lazy_init=True),
    'filtered': lambda good, bad: dict(bad, filter_cfg=dict(filter_empty_gt=True, min_size=32)),
}


@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS.keys())
def test_labels_numbered_otherwise_are_found_in_every_wrapper(renumbered, monkeypatch, wrap):
    bad = coco(renumbered)
    dataset = built(wrap(coco(renumbered, 'instances.json'), bad))
    assert built(bad).cat2label == {3: 0, 2: 1, 1: 2}  # mmdet's numbering
    with pytest.raises(ValueError, match=r"\['disc', 'square', 'cross'\] by its `metainfo`, but "
                       r"mmdet numbers them in the order of .*reversed.json, \['cross', 'square', "
                       r"'disc'\]: label 0 is 'cross', not 'disc'.*2 of the classes.*write "
                       r'`metainfo` in the order of the file;.*`teacher=dict\(classes='):
        check(monkeypatch, dataset)


@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS.keys())
def test_labels_in_order_raise_no_error(renumbered, monkeypatch, wrap):
    good = coco(renumbered, 'instances.json')
    check(monkeypatch, built(wrap(good, good)))


def test_names_in_the_order_of_the_file_raise_no_error(renumbered, monkeypatch):
    names = CLASSES[::-1]
    check(monkeypatch, built(coco(renumbered, classes=names)), names)


def test_missing_class_shifts_later_labels(renumbered, monkeypatch):
    dataset = built(coco(renumbered, 'fewer.json'))
    assert dataset.cat2label == {1: 0, 3: 1}
    with pytest.raises(ValueError, match="label 1 is 'cross', not 'square'.*1 of the "
                                         'classes.*followed by the classes that it lacks'):
        check(monkeypatch, dataset)
    check(monkeypatch, built(coco(renumbered, 'fewer.json', ('disc', 'cross', 'square'))),
          ('disc', 'cross', 'square'))
    # without the last category, the others keep their labels
    check(monkeypatch, built(coco(renumbered, 'first_two.json')))


def test_subset_of_the_files_classes_raises_no_error(renumbered, monkeypatch):
    check(monkeypatch, built(coco(renumbered, 'instances.json', ('disc', 'cross'))),
          ('disc', 'cross'))
    with pytest.raises(ValueError, match="label 0 is 'cross', not 'disc'"):
        check(monkeypatch, built(coco(renumbered, classes=('disc', 'cross'))), ('disc', 'cross'))


def test_default_names_of_a_data_set_are_checked(renumbered, monkeypatch):
    """Without `metainfo`, the names are those of the data set's class."""
    monkeypatch.setattr(CocoDataset, 'METAINFO', dict(classes=CLASSES))
    good, bad = (built(dict(coco(renumbered, file), metainfo=None))
                 for file in ('instances.json', 'reversed.json'))
    check(monkeypatch, good)
    with pytest.raises(ValueError, match="label 0 is 'cross', not 'disc'"):
        check(monkeypatch, bad)


def test_stated_classes_are_compared_with_the_labels(renumbered, monkeypatch):
    dataset = built(coco(renumbered))
    # the actual order, whatever `metainfo` states
    check(monkeypatch, dataset, CLASSES[::-1], is_stated=True)
    check(monkeypatch, dataset, ('a', 'b', 'c'), is_stated=True)  # synonyms
    with pytest.raises(ValueError, match='by `classes` of the config.*write `classes` in the'):
        check(monkeypatch, dataset, is_stated=True)


def test_second_data_set_with_names_of_its_own(renumbered, monkeypatch):
    one = coco(renumbered, 'instances.json')
    other = coco(renumbered, 'reversed.json', CLASSES[::-1])
    dataset = built(dict(type='ConcatDataset', datasets=[one, other], ignore_keys=['classes']))
    with pytest.raises(ValueError, match='reversed.json numbers them in the order of its own '
                       '`metainfo`.*in the order of the labels'):
        check(monkeypatch, dataset)


def test_voc_numbers_by_name(monkeypatch):
    class Dataset:
        metainfo = dict(classes=('cat', 'dog'))
        cat2label = {'cat': 0, 'dog': 1}

    check(monkeypatch, Dataset(), ('cat', 'dog'))
    assert names_of_labels(Dataset()) == ['cat', 'dog']


def test_other_file_formats_are_not_checked(monkeypatch, tmp_path):
    (tmp_path / 'list.txt').write_text('0001\n0002\n')

    class Dataset:
        metainfo = dict(classes=('cat', 'dog'))
        cat2label = {7: 0, 3: 1}
        ann_file = str(tmp_path / 'list.txt')

    check(monkeypatch, Dataset(), ('cat', 'dog'))


@pytest.mark.parametrize('text', [
    '{"images": [], "categories": [{"id": 3, "name": "x"}], "annotations": [1]}',
    '{"info": {"categories": [{"id": 9, "name": "no"}]}, "categories" :\n [{"id":3,"name":"x"}]}',
    '{"info": "\\"categories\\": [", "categories": [{"id": 3, "name": "x"}]}',
])
def test_categories_are_read_without_the_rest(tmp_path, text):
    (tmp_path / 'a.json').write_text(text)
    assert categories_of(str(tmp_path / 'a.json')) == {3: 'x'}


def test_parts_of_a_data_set_keep_the_order_of_the_config(renumbered):
    parts = [coco(renumbered, file) for file in ('instances.json', 'fewer.json')]
    found = leaves_of(built(dict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=parts))))
    assert [one.ann_file.rsplit('/')[-1] for one in found] == ['instances.json', 'fewer.json']
    assert not list(leaves_of(None))


def test_run_with_equal_names_and_other_numbers_is_refused(renumbered, tmp_path):
    """Class names are equal on both sides. Training is by iterations, on a concatenation."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    config = detector_config(renumbered, distiller(retinanet(), teacher), str(tmp_path / 'run'))
    one = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[
        one, dict(one, ann_file=one['ann_file'].replace('instances', 'reversed'))])
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
    with pytest.raises(ValueError, match="reversed.json, .*label 0 is 'cross', not 'disc'"):
        train(config)


def test_order_matters_only_where_classes_are_compared(renumbered, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    config = detector_config(renumbered, distiller(
        retinanet(), teacher, dict(type='mmkd.MSELoss', on='neck')), str(tmp_path / 'run'))
    config.train_dataloader.dataset.ann_file = config.train_dataloader.dataset.ann_file.replace(
        'instances', 'reversed')
    _, losses = train(config)
    assert losses[0]['loss_neck_mse'] > 0


def test_with_true_names_columns_are_matched_by_what_labels_mean(renumbered, tmp_path):
    """A teacher that was trained on the same file; its checkpoint has the names in a wrong order.
    """
    teacher = save_teacher(tmp_path / 't.pth', retinanet())  # disc, square, cross: the wrong order
    order = list(CLASSES[::-1])
    config = detector_config(renumbered, distiller(retinanet(), dict(teacher, classes=order)),
                             str(tmp_path / 'run'), classes=order)
    config.train_dataloader.dataset.ann_file = config.train_dataloader.dataset.ann_file.replace(
        'instances', 'reversed')
    runner, _ = train(config)
    assert runner.model.terms[0].alignment.columns is None  # columns are not reordered
    assert runner.model.teacher.classes == order


# --- `reduce_zero_label` ------------------------------------------------------------------------


@pytest.mark.parametrize(('student', 'teacher', 'is_refused'), [
    ([True], [True], False), ([False], [False], False), ([], [True], False), ([True], [], False),
    ([True], [False], True), ([False], [True], True), ([True, False], [True], True),
    ([True], [True, False], False),
])
def test_settings_that_differ_are_refused_and_unknown_ones_not(student, teacher, is_refused):
    sides = [[ZeroLabel(value, f'{side} {i}') for i, value in enumerate(values)]
             for side, values in (('mine', student), ('theirs', teacher))]
    if not is_refused:
        return check_zero_label(*sides)
    with pytest.raises(ValueError, match=r'`reduce_zero_label` is (True|False) in .*\(mine \d\) '
                       r'and (True|False) for `teacher` \(theirs 0\).*use the same setting for '
                       r'both'):
        check_zero_label(*sides)


@pytest.mark.parametrize(('dataset', 'expected'), [
    (dict(type='ADE20KDataset'), [True]),  # default of the class
    (dict(type='ADE20KDataset', reduce_zero_label=False), [False]),
    (dict(type='CityscapesDataset'), [False]),
    (dict(type='RepeatDataset', dataset=dict(type='PotsdamDataset')), [True]),
    (dict(type='BaseSegDataset', pipeline=[dict(type='LoadAnnotations', reduce_zero_label=True)]),
     [True]),
    (dict(type='ConcatDataset', datasets=[dict(type='ADE20KDataset'),
                                          dict(type='CityscapesDataset')]), [True, False]),
    (dict(type='mmdet.CocoDataset'), []),
    (dict(type='NoSuchDataset'), []),
])
def test_settings_of_a_config(dataset, expected):
    import mmseg.datasets  # noqa: F401
    with DefaultScope.overwrite_default_scope('mmseg'):
        found = zero_labels_of_config(Config(dict(train_dataloader=dict(dataset=dataset))))
    assert [one.is_reduced for one in found] == expected
    assert not zero_labels_of_config(Config({}))


def test_settings_of_a_checkpoint():
    meta = dict(dataset_meta=dict(classes=('a', ), reduce_zero_label=True))
    assert [one.is_reduced for one in zero_label_of_checkpoint(dict(meta=meta))] == [True]
    assert zero_label_of_checkpoint(dict(meta={})) == []


def test_setting_in_the_pipeline_of_a_detection_set(renumbered, monkeypatch):
    steps = [dict(type='LoadAnnotations', with_seg=True, reduce_zero_label=True)]
    for pipeline, expected in ((steps, [True]), ([dict(type='LoadAnnotations')], [])):
        dataset = built(coco(renumbered, pipeline=pipeline))
        monkeypatch.setattr('mmkd.files.labels.training_set', lambda dataset=dataset: dataset)
        assert [one.is_reduced for one in zero_labels_of_run()] == expected


def streets_teacher(tmp_path, **dataset):
    from mmseg.datasets import CityscapesDataset
    teacher = save_teacher(tmp_path / 't.pth', segmentor(width=12),
                           CityscapesDataset.METAINFO['classes'], scope='mmseg')
    teacher['config']['train_dataloader'] = dict(dataset=dict(
        dict(type='CityscapesDataset'), **dataset))
    return teacher


def test_run_of_one_side_without_label_zero_is_refused(streets, tmp_path):
    teacher = streets_teacher(tmp_path, reduce_zero_label=True)
    config = segmentor_config(streets, distiller(segmentor(), teacher), str(tmp_path / 'run'))
    with pytest.raises(ValueError, match='`reduce_zero_label` is False in the student.*'
                       r'\(CityscapesDataset of .*\) and True for `teacher` \(CityscapesDataset in '
                       '`train_dataloader` of its config'):
        train(config)
    # `classes` in the config takes precedence over the setting.
    names = list(streets_classes())
    config.model.teacher['classes'] = names
    config.work_dir = str(tmp_path / 'stated')
    _, losses = train(config)
    assert losses[0]['loss_cls_dist'] != 0


def streets_classes():
    from mmseg.datasets import CityscapesDataset
    return CityscapesDataset.METAINFO['classes']


def test_inspection_checks_the_setting():
    from mmkd.inspection import inspect_pair
    pair = [Config(dict(default_scope='mmseg', model=segmentor(width=width), train_dataloader=dict(
        dataset=dict(type='CityscapesDataset', reduce_zero_label=reduced))))
        for width, reduced in ((8, False), (12, True))]
    problems = {one.point: one.problem for one in inspect_pair(*pair)}
    assert '`reduce_zero_label` is False' in problems['cls']
    assert '`reduce_zero_label` is False' in problems['aux']
    assert problems['backbone'] == ''


def test_names_can_explain_a_different_setting(monkeypatch):
    """The teacher has a column for the background, but each column is known by its name."""
    from mmkd.inspection import inspect_pair
    names = ['road', 'sky']
    pair = [Config(dict(default_scope='mmseg', model=segmentor(width=width, classes=len(classes)),
                        train_dataloader=dict(dataset=dict(
                            type='BaseSegDataset', metainfo=dict(classes=classes),
                            reduce_zero_label=reduced))))
            for width, reduced, classes in ((8, True, names), (12, False, ['background', *names]))]
    found = {one.point: one for one in inspect_pair(*pair)}
    assert found['cls'].term.alignment.columns.order == [1, 2]
