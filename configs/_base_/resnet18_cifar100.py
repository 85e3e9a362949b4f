"""ResNet-18 on CIFAR-100: random crop and flip, batch 128 on one GPU, SGD 0.1 with Nesterov."""
_base_ = ['mmpretrain::_base_/models/resnet18_cifar.py',
          'mmpretrain::_base_/datasets/cifar100_bs16.py',
          'mmpretrain::_base_/schedules/cifar10_bs128.py',
          'mmpretrain::_base_/default_runtime.py']

model = dict(head=dict(num_classes=100))
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4, nesterov=True))
