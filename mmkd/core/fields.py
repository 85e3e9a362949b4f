"""How are the fields of a data sample called that mmkd adds?"""

VIEW = 'mmkd_view_{}'
"""Field of a data sample that holds a view, (C, H, W), as it was loaded (BGR)."""
