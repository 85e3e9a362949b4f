"""The teacher: three classes, 'RBC', 'WBC' and 'Platelets', on the annotations as they are.

    python tools/train.py configs/bccd_cells/teacher.py
"""
_base_ = ['../few_labels/bccd_100/teacher.py']
