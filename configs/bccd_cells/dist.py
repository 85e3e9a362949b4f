"""DIST from a teacher of three classes: the logits of RBC and WBC become one for 'cell'.

    python tools/compare.py configs/bccd_cells            # trains the teacher first
    python tools/train.py configs/bccd_cells/dist.py      # with the teacher at the path below
"""
_base_ = ['./student.py']

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/bccd_cells/teacher/seed0/iter_312.pth',
        classes=dict(cell=['RBC', 'WBC'])),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
