"""The student alone, on the labelled images and those that the teacher has labelled.

    python tools/train.py configs/few_labels/camvid_10/pseudo_labels.py
"""
_base_ = ['./student.py']

labelled = _base_.train_dataloader.dataset
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[
    labelled,
    dict(
        labelled,
        ann_file='data/few_labels/camvid/unlabelled_10.txt',
        data_prefix=dict(
            img_path='data/camvid_cityscapes/leftImg8bit/train',
            seg_map_path='data/few_labels/camvid_10/labels')),
]))
