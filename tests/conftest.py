"""Small models and data sets, shared by all tests."""
import copy
import gc
import importlib
import importlib.metadata
import json
import logging
import os
import sys
import time
from typing import Any, Dict, Iterator, List, Set

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmkd.files.safe_types import allow_mmengine_checkpoints

torch.set_num_threads(1)
# A logger of an earlier test writes to the output of that test, which is closed, and would report
# this in the output of the present one.
logging.raiseExceptions = False

QUICK = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'quick')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (QUICK, os.environ.get('PYTHONPATH'))))
sys.path.insert(0, QUICK)
for module in ('quick', 'declared_operators'):
    importlib.import_module(module)

CLASSES = ('disc', 'square', 'cross')

TIMESTAMP = '%Y%m%d_%H%M%S'  # as MMEngine writes it
setup_env = Runner.setup_env
taken: Set[str] = set()


def setup_env_at_its_own_second(runner: Runner, config: dict) -> None:
    """Give each Runner of a process its own timestamp.

    Runs of tests take less than a second. Two with one timestamp share a folder of logs, and
    MMEngine continues the visualizer of the first.
    """
    setup_env(runner, config)
    second = time.mktime(time.strptime(runner._timestamp, TIMESTAMP))
    while runner._timestamp in taken:
        second += 1
        runner._timestamp = time.strftime(TIMESTAMP, time.localtime(second))
    taken.add(runner._timestamp)


Runner.setup_env = setup_env_at_its_own_second


def pytest_collection_finish() -> None:
    """Take what the imports created out of garbage collection.

    A data set of MMEngine collects garbage when it is created, and a Runner creates two. With the
    objects of torch, mmdet and mmseg, each collection took a fifth of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='module')
def freeze_what_remains() -> Iterator[None]:
    """Do the same with what the tests of a file leave behind.

    Each loss that torch.compile translates leaves some 60 000 objects in its caches.
    """
    yield
    gc.collect()
    gc.freeze()


def retinanet(depth: int = 18, classes: int = 3, width: int = 8, channels: int = 16,
              **bbox_head: Any) -> dict:
    """mmdet's RetinaNet, narrow enough for a test: about 0.2 M parameters."""
    config = Config.fromfile(_mmdet('_base_/models/retinanet_r50_fpn.py'))
    expansion = 1 if depth < 50 else 4
    config.merge_from_dict(dict(model=dict(
        backbone=dict(depth=depth, base_channels=width, frozen_stages=-1, norm_eval=False,
                      init_cfg=None),
        neck=dict(in_channels=[width * expansion * 2**i for i in range(4)],
                  out_channels=channels),
        bbox_head=dict(num_classes=classes, in_channels=channels, feat_channels=channels,
                       stacked_convs=1, **bbox_head),
        test_cfg=dict(score_thr=0.))))  # untrained models must also return detections
    return config.model.to_dict()


def two_stage(kind: str = 'faster-rcnn', depth: int = 18, classes: int = 3, width: int = 8,
              channels: int = 16, **roi_head: Any) -> dict:
    """mmdet's Faster, Cascade or Cascade Mask R-CNN, narrow enough for a test."""
    config = Config.fromfile(_mmdet(f'_base_/models/{kind}_r50_fpn.py'))
    expansion = 1 if depth < 50 else 4
    box = dict(in_channels=channels, fc_out_channels=32, num_classes=classes)
    extractors = [name for name in config.model.roi_head if name.endswith('roi_extractor')]
    config.merge_from_dict(dict(model=dict(
        backbone=dict(depth=depth, base_channels=width, frozen_stages=-1, norm_eval=False,
                      init_cfg=None),
        neck=dict(in_channels=[width * expansion * 2**i for i in range(4)],
                  out_channels=channels),
        rpn_head=dict(in_channels=channels, feat_channels=channels,
                      anchor_generator=dict(scales=[2])),
        roi_head=dict({name: dict(out_channels=channels) for name in extractors}, **roi_head),
        test_cfg=dict(rcnn=dict(score_thr=0.)))))
    model = config.model
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(box)
    if 'mask_head' in model.roi_head:
        model.roi_head.mask_head.update(
            in_channels=channels, conv_out_channels=channels, num_classes=classes)
    stages = model.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 16
    return model.to_dict()


def segmentor(kind: str = 'pspnet', depth: int = 18, width: int = 8, classes: int = 19,
              **decode_head: Any) -> dict:
    """mmseg's PSPNet or DeepLabV3 on a narrow ResNet-d8, with its auxiliary head."""
    config = Config.fromfile(_mmseg(f'_base_/models/{kind}_r50-d8.py'))
    stages = [width * (1 if depth < 50 else 4) * 2**i for i in range(4)]
    norm = dict(type='BN', requires_grad=True)
    config.merge_from_dict(dict(model=dict(
        pretrained=None,
        data_preprocessor=dict(size=(64, 64)),
        backbone=dict(depth=depth, stem_channels=width, base_channels=width, norm_cfg=norm),
        decode_head=dict(dict(in_channels=stages[3], channels=16, num_classes=classes,
                              norm_cfg=norm), **decode_head),
        auxiliary_head=dict(in_channels=stages[2], channels=8, num_classes=classes,
                            norm_cfg=norm))))
    return config.model.to_dict()


def _mmseg(inner: str) -> str:
    import mmseg
    return os.path.join(os.path.dirname(mmseg.__file__), '.mim', 'configs', inner)


def _mmdet(inner: str) -> str:
    import mmdet
    return os.path.join(os.path.dirname(mmdet.__file__), '.mim', 'configs', inner)


@pytest.fixture(scope='session')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a COCO data set: 4 images of 96x64 with discs, squares and crosses."""
    folder = tmp_path_factory.mktemp('shapes')
    rng = np.random.default_rng(0)
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for number in range(4):
        image = rng.integers(0, 80, (64, 96, 3), dtype=np.uint8)
        for label in range(3):
            x, y, side = int(rng.integers(0, 64)), int(rng.integers(0, 32)), 28
            image[y:y + side, x:x + side, label] += 150
            annotations.append(dict(id=len(annotations) + 1, image_id=number, iscrowd=0,
                                    category_id=label + 1, bbox=[x, y, side, side],
                                    area=side * side))
        cv2.imwrite(str(folder / f'{number}.png'), image)
        images.append(dict(id=number, file_name=f'{number}.png', height=64, width=96))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    (folder / 'instances.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=categories)))
    return str(folder)


@pytest.fixture(scope='session')
def streets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of 4 images of 80x64 in the layout of Cityscapes: bands of classes 0, 2, 13 and 255.

    It includes the files for the evaluation of Cityscapes: label ids and instance ids.
    """
    ids = np.zeros(256, dtype=np.uint16)
    ids[[0, 2, 13]] = 7, 11, 26  # road, building, car
    folder = tmp_path_factory.mktemp('streets')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for part in ('leftImg8bit', 'gtFine'):
            os.makedirs(folder / part / split / 'town')
        for number in range(4):
            labels = np.repeat(np.array([2, 13, 0, 255], dtype=np.uint8), 16)[:, None]
            labels = np.roll(np.tile(labels, (1, 80)), 8 * number, axis=0)
            image = rng.integers(0, 60, (64, 80, 3), dtype=np.uint8)
            image += (labels[..., None] % 7 * 25).astype(np.uint8)
            stem = f'{split}/town/town_{number:06d}'
            cv2.imwrite(str(folder / 'leftImg8bit' / f'{stem}_leftImg8bit.png'), image)
            for kind, picture in (('labelTrainIds', labels),
                                  ('labelIds', ids[labels].astype(np.uint8)),
                                  ('instanceIds', np.where(labels == 13, 26001, ids[labels]))):
                path = str(folder / 'gtFine' / f'{stem}_gtFine_{kind}.png')
                cv2.imwrite(path, picture.astype(np.uint16 if kind == 'instanceIds' else np.uint8))
    return str(folder)


def segmentor_config(data: str, model: dict, work_dir: str, **changes: Any) -> Config:
    """A complete config of mmseg: two iterations of batch size 2, one evaluation."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomCrop', crop_size=(64, 64)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs'),
    ]
    test_pipeline = [pipeline[0], dict(type='Resize', scale=(80, 64)), pipeline[1], pipeline[-1]]
    dataset = dict(type='CityscapesDataset', data_root=data)
    loaders = {split: dict(
        batch_size=size, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=size > 1),
        dataset=dict(**dataset, pipeline=steps, data_prefix=dict(
            img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}')))
        for split, size, steps in (('train', 2, pipeline), ('val', 1, test_pipeline))}
    evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    config = Config(dict(
        default_scope='mmseg',
        custom_imports=dict(imports=['mmkd'], allow_failed_imports=False),
        model=model,
        work_dir=work_dir,
        train_dataloader=loaders['train'],
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
        val_dataloader=loaders['val'],
        val_evaluator=evaluator,
        val_cfg=dict(type='ValLoop'),
        test_dataloader=loaders['val'],
        test_evaluator=evaluator,
        test_cfg=dict(type='TestLoop'),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
                           checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        log_processor=dict(by_epoch=False),
        visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
        randomness=dict(seed=0),
        experiment_name=work_dir.replace(os.sep, '_')))
    config.merge_from_dict(changes)
    return config


def detector_config(data: str, model: dict, work_dir: str, classes: Any = CLASSES,
                    **changes: Any) -> Config:
    """A complete config of mmdet: two iterations of batch size 2, one evaluation."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(96, 64)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    test_pipeline = pipeline[:3] + [
        dict(type='PackDetInputs',
             meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
    dataset = dict(type='CocoDataset', ann_file=os.path.join(data, 'instances.json'),
                   data_prefix=dict(img=data), metainfo=dict(classes=tuple(classes)))
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                  dataset=dict(**dataset, pipeline=pipeline))
    test_loader = dict(loader, sampler=dict(type='DefaultSampler', shuffle=False),
                       dataset=dict(**dataset, pipeline=test_pipeline, test_mode=True))
    evaluator = dict(type='CocoMetric', ann_file=dataset['ann_file'], metric='bbox')
    config = Config(dict(
        default_scope='mmdet',
        custom_imports=dict(imports=['mmkd'], allow_failed_imports=False),
        model=model,
        work_dir=work_dir,
        train_dataloader=loader,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001)),
        val_dataloader=test_loader,
        val_evaluator=evaluator,
        val_cfg=dict(type='ValLoop'),
        test_dataloader=test_loader,
        test_evaluator=evaluator,
        test_cfg=dict(type='TestLoop'),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=dict(type='CheckpointHook', interval=1)),
        visualizer=dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
        randomness=dict(seed=0),
        experiment_name=work_dir.replace(os.sep, '_')))
    config.merge_from_dict(changes)
    return config


def distiller(student: dict, teacher: Any, *distill: dict) -> dict:
    """The config of a Distiller."""
    return dict(type='mmkd.Distiller', student=student, teacher=teacher,
                distill=list(distill) or [dict(type='mmkd.DISTLoss', on='cls')])


def save_teacher(path: Any, model: dict, classes: Any = CLASSES, seed: int = 1,
                 scope: str = 'mmdet') -> dict:
    """Write a checkpoint of random weights in MMEngine's format; return the `teacher` entry."""
    torch.manual_seed(seed)
    network = build(model, scope)
    network.init_weights()
    # Running statistics as after training, so that a batch norm in the wrong mode changes outputs.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    torch.save(dict(meta=dict(dataset_meta=dict(classes=tuple(classes))),
                    state_dict=network.state_dict()), path)
    return dict(config=dict(default_scope=scope, model=model), checkpoint=str(path))


def build(model: dict, scope: str = 'mmdet') -> Any:
    """Build a model as a Runner does, without ``init_weights``."""
    from mmengine.registry import MODELS, DefaultScope
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(Config(dict(model=copy.deepcopy(model))).model)


def leave_group() -> None:
    """Destroy the process group. A distributed wrapper must not outlive it, or it may hang."""
    gc.collect()
    torch.distributed.destroy_process_group()


def record_losses(runner: Any) -> List[Dict[str, float]]:
    """Record the losses that the model returns in every iteration."""
    model, seen = runner.model, []
    forward = model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        if isinstance(out, dict):
            seen.append({k: sum(v).item() if isinstance(v, list) else v.item()
                         for k, v in out.items()})
        return out

    model.forward = watched
    return seen


def train(config: Config) -> tuple:
    """Run a config; return its Runner and the losses of every iteration."""
    from mmengine.runner import Runner
    runner = Runner.from_cfg(config)
    losses = record_losses(runner)
    runner.train()
    return runner, losses


def saved_at(path: Any) -> dict:
    """Load a checkpoint with ``weights_only=True``."""
    allow_mmengine_checkpoints()  # on the forks, loading a file with MMEngine undoes the call
    return torch.load(path, map_location='cpu', weights_only=True)


def is_fork() -> bool:
    """Whether the maintained forks of OpenMMLab's packages are installed."""
    return any(one.metadata['Name'] == 'onedl-mmsegmentation'
               for one in importlib.metadata.distributions())


def observe(model: Any, inputs: torch.Tensor, samples: Any = None) -> tuple:
    """Return the student's records and the teacher's answers of a Distiller, without its losses."""
    distillation = model.distillation
    seen = {'student': distillation.probe.predicted('student', inputs)}
    return by_place(seen, distillation.ask(seen, inputs, samples, distillation.terms))


def step(model: Any, inputs: torch.Tensor, samples: Any) -> tuple:
    """Run one training step of a Distiller; return the losses, the records and the answers."""
    distillation, told, kept = model.distillation, {}, {}
    ask = distillation.ask

    def watched(seen: dict, *args: Any, **named: Any) -> dict:
        # Some teachers run before the student, and records are released at the end of the step.
        answers = ask(seen, *args, **named)
        told.update(answers)
        kept.update(seen)
        return answers

    distillation.ask = watched
    losses = model(inputs, samples, mode='loss')
    del distillation.ask
    return losses, *by_place(kept, told)


def by_place(seen: dict, told: dict) -> tuple:
    """Return the records of the only student and, by place, the answers of the only teacher."""
    return seen['student'], {
        at: records for (_, at), records in told.get('teacher', {}).items()}
