"""ResNet-34 teaches ResNet-18 on ImageNet, trained as mdistiller trains: 8 GPUs x 64 images.

Its teacher is torchvision's (73.31 top-1).
"""
_base_ = ['./resnet18_r34_in1k.py']

train_dataloader = dict(batch_size=64)  # SOLVER.BATCH_SIZE 512
optim_wrapper = dict(optimizer=dict(lr=0.2))  # SOLVER.LR 0.2
auto_scale_lr = dict(base_batch_size=512)
