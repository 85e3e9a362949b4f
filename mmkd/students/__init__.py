"""Which parts may a student have that mmdet and mmseg do not?"""
