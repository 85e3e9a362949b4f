"""Which fields does mmkd add to a data sample?"""

VIEW = 'mmkd_view_{}'
"""Name of the field that holds a view of the image: tensor (C, H, W), as loaded (BGR)."""
