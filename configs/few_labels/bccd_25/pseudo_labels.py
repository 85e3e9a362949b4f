"""The student alone, on the labelled images and those that the teacher has labelled.

    python tools/train.py configs/few_labels/bccd_25/pseudo_labels.py
"""
_base_ = ['./student.py']

labelled = _base_.train_dataloader.dataset
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[
    labelled,
    dict(labelled, ann_file='data/few_labels/bccd_25/annotations.json'),
]))
