"""Shrunken but real models and data, shared by all tests."""
import json
import os
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

torch.set_num_threads(1)

CLASSES = ('disc', 'square', 'cross')


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
        test_cfg=dict(score_thr=0.))))  # untrained models must find something too
    return config.model.to_dict()


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


def detector_config(data: str, model: dict, work_dir: str, classes: Any = CLASSES,
                    **changes: Any) -> Config:
    """A whole config as a user has it: two iterations of batch 2, evaluated once."""
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
        experiment_name=os.path.basename(work_dir)))
    config.merge_from_dict(changes)
    return config


def distiller(student: dict, teacher: Any, *distill: dict) -> dict:
    """The model of the six lines."""
    return dict(type='mmkd.Distiller', student=student, teacher=teacher,
                distill=list(distill) or [dict(type='mmkd.DISTLoss', on='cls')])


def save_teacher(path: Any, model: dict, classes: Any = CLASSES, seed: int = 1) -> dict:
    """Train nothing, but write a checkpoint as MMEngine would; return the `teacher` entry."""
    from mmengine.registry import MODELS, DefaultScope
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmdet'):
        network = MODELS.build(Config(dict(model=model)).model)
    network.init_weights()
    # Statistics as after training: batch norm in the wrong mode is noticed only by them.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    torch.save(dict(meta=dict(dataset_meta=dict(classes=tuple(classes))),
                    state_dict=network.state_dict()), path)
    return dict(config=dict(default_scope='mmdet', model=model), checkpoint=str(path))


def observe(model: Any, inputs: torch.Tensor, samples: Any = None) -> tuple:
    """What student and teacher of a Distiller say of a batch, without losses."""
    from mmkd.heads import adapter_of
    from mmkd.recorder import recording
    distillation = model.distillation
    adapter, paths = adapter_of(model.student), distillation._student_paths
    with recording(model.student, paths) as seen:
        adapter.predict(model.student, adapter.extract(model.student, inputs), paths,
                        adapter.made_up(inputs))
    return seen, distillation._ask(seen, inputs, samples)
