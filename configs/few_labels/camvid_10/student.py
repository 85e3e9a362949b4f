"""The student alone, PSPNet EfficientNet-Lite0, on 37 labelled images of CamVid (10 %).

    python tools/train.py configs/few_labels/camvid_10/student.py
"""
_base_ = ['../../camvid_lite/student.py']

train_dataloader = dict(dataset=dict(
    data_root='',
    ann_file='data/few_labels/camvid/labelled_10.txt',
    data_prefix=dict(
        img_path='data/camvid_cityscapes/leftImg8bit/train',
        seg_map_path='data/camvid_cityscapes/gtFine/train')))
