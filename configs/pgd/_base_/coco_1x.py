"""PGD's training on COCO (work_configs/base/1x_setting.py of the authors): 8 GPUs x 4 images.

12 epochs, x0.1 after 8 and 11, warm-up of 500 iterations from 0.001, momentum 0.9, weight decay
1e-4, images 1333x800, flip 0.5 are mmdet's.
"""
_base_ = ['mmdet::_base_/datasets/coco_detection.py', 'mmdet::_base_/schedules/schedule_1x.py',
          'mmdet::_base_/default_runtime.py']

train_dataloader = dict(batch_size=4)  # mmdet: 2, with the same learning rate
optim_wrapper = dict(
    optimizer=dict(lr=0.02),
    clip_grad=dict(max_norm=35, norm_type=2))  # optimizer_config; mmdet: none
auto_scale_lr = dict(base_batch_size=32)
