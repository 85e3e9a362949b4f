"""Small pairs of whole models: student, teacher, a batch, package, and two points of both."""
from conftest import retinanet, save_teacher, segmentor, two_stage
from loops import images, streets_of


def dense(folder):
    teacher = save_teacher(folder / 't.pth', retinanet(width=12))
    return retinanet(), teacher, images([0, 1]), 'mmdet', ('neck', 'cls')


def rois(folder):
    teacher = save_teacher(folder / 't.pth', two_stage(width=12))
    return two_stage(), teacher, images([0, 1]), 'mmdet', ('neck', 'cls')


def streets(folder):
    teacher = save_teacher(folder / 't.pth', segmentor(width=12, classes=4), list('abcd'),
                           scope='mmseg')
    return segmentor(classes=4), teacher, streets_of([0, 1]), 'mmseg', ('backbone', 'cls')
