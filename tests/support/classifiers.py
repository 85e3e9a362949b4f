"""Small mmpretrain classifiers and a folder of images. mmpretrain need not be installed."""
import os

import cv2
import numpy as np
import torch
from conftest import build, distiller
from mmengine.config import Config

from support.neighbours import needs

CLASSES = ('disc', 'square', 'cross', 'ring')


def needs_mmpretrain():
    """Skip the tests of a module if mmpretrain cannot be imported."""
    needs(*(f'mmpretrain.{name}' for name in ('models', 'datasets', 'evaluation', 'visualization')))


def preprocessor(**changes):
    return dict(dict(type='ClsDataPreprocessor', mean=[120., 110., 100.], std=[60., 50., 40.],
                     to_rgb=True, num_classes=4), **changes)


def resnet(width=8, head='LinearClsHead', classes=4, out=(0, 1, 2, 3), pre=None, **settings):
    return dict(
        type='ImageClassifier', data_preprocessor=preprocessor(**pre or {}),
        backbone=dict(type='ResNet', depth=18, stem_channels=width, base_channels=width,
                      out_indices=out),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type=head, num_classes=classes, in_channels=width * 8, **settings))


def vit(out='cls_token', kind='VisionTransformer', head='VisionTransformerClsHead', size=64):
    return dict(
        type='ImageClassifier', data_preprocessor=preprocessor(),
        backbone=dict(type=kind, arch=dict(embed_dims=24, num_layers=2, num_heads=2,
                                           feedforward_channels=48),
                      img_size=size, patch_size=16, out_type=out),
        neck=None, head=dict(type=head, num_classes=4, in_channels=24))


def swin():
    return dict(
        type='ImageClassifier', data_preprocessor=preprocessor(),
        backbone=dict(type='SwinTransformer', img_size=64, window_size=2, out_indices=(0, 1, 2, 3),
                      arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=4, in_channels=64))


def conformer():
    return dict(
        type='ImageClassifier', data_preprocessor=preprocessor(),
        backbone=dict(type='Conformer', arch=dict(embed_dims=24, channel_ratio=1, num_heads=2,
                                                  depths=3)),
        neck=None, head=dict(type='ConformerHead', num_classes=4, in_channels=[256, 24]))


def pair(student, teacher, *distill, **settings):
    """A Distiller in train mode; the teacher has random weights."""
    torch.manual_seed(0)
    entry = dict(config=dict(default_scope='mmpretrain', model=teacher), checkpoint=None)
    model = build(dict(distiller(student, entry, *distill), classes=CLASSES, **settings),
                  'mmpretrain')
    model.student.init_weights()
    return model.train()


def batch(model, labels=(0, 1, 2, 3), size=(64, 64), training=True):
    """Return inputs and samples of the data preprocessor; a label may be a list of labels."""
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(labels), 3, *size), dtype=torch.uint8, generator=generator)
    samples = [DataSample(metainfo=dict(img_shape=size, num_classes=4)).set_gt_label(label)
               for label in labels]
    return model.data_preprocessor(dict(inputs=list(images), data_samples=samples), training)


def folder_of_images(path, count=12, size=32):
    """Write images into one folder for each of :data:`CLASSES`."""
    rng = np.random.default_rng(0)
    for number in range(count):
        label = number % len(CLASSES)
        image = rng.integers(0, 80, (size, size, 3), dtype=np.uint8)
        image[8 * label:8 * label + 8] += 150
        os.makedirs(path / CLASSES[label], exist_ok=True)
        cv2.imwrite(str(path / CLASSES[label] / f'{number}.png'), image)
    return str(path)


def config(data, model, work_dir, **changes):
    """A complete config of mmpretrain: epochs of three iterations, with random crops and flips."""
    steps = [dict(type='LoadImageFromFile'),
             dict(type='RandomCrop', crop_size=32, padding=4),
             dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
    loaders = [dict(
        batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(type='CustomDataset', data_root=data, pipeline=pipeline,
                     metainfo=dict(classes=CLASSES)))
        for shuffle, pipeline in ((True, steps), (False, [steps[0], steps[-1]]))]
    found = Config(dict(
        default_scope='mmpretrain',
        custom_imports=dict(imports=['mmkd'], allow_failed_imports=False),
        model=model, work_dir=str(work_dir),
        train_dataloader=loaders[0], val_dataloader=loaders[1], test_dataloader=loaders[1],
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1), val_cfg=dict(),
        test_cfg=dict(), val_evaluator=dict(type='Accuracy', topk=(1, )),
        test_evaluator=dict(type='Accuracy', topk=(1, )),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=dict(type='CheckpointHook', interval=1)),
        randomness=dict(seed=0), experiment_name=str(work_dir).replace(os.sep, '_')))
    found.merge_from_dict(changes)
    return found
