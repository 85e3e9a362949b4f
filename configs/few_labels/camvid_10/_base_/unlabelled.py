"""The other images of CamVid, for tools/label.py; their label maps are not read."""
_base_ = ['../student.py']

train_dataloader = dict(dataset=dict(ann_file='data/few_labels/camvid/unlabelled_10.txt'))
