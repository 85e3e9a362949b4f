"""The other images of BCCD, for tools/label.py; no model trains on them without labels."""
_base_ = ['../student.py']

train_dataloader = dict(dataset=dict(ann_file='data/few_labels/bccd/unlabelled_10.json'))
