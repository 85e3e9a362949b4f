"""The student alone: two classes, red and white blood cells together, and platelets.

    python examples/merge_classes.py data/bccd/annotations/instances_train.json \
        data/bccd_cells/train.json cell=RBC,WBC
    python examples/merge_classes.py data/bccd/annotations/instances_val.json \
        data/bccd_cells/val.json cell=RBC,WBC
    python tools/train.py configs/bccd_cells/student.py
"""
_base_ = ['../few_labels/bccd_100/student.py']

metainfo = dict(classes=('cell', 'Platelets'))
model = dict(bbox_head=dict(num_classes=2))

train_dataloader = dict(dataset=dict(
    metainfo=metainfo,
    data_root='',
    ann_file='data/bccd_cells/train.json',
    data_prefix=dict(img='data/bccd/train/')))
val_dataloader = dict(dataset=dict(
    metainfo=metainfo,
    data_root='',
    ann_file='data/bccd_cells/val.json',
    data_prefix=dict(img='data/bccd/val/')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/bccd_cells/val.json')
test_evaluator = val_evaluator
