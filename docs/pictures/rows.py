"""Cut rows out of a sheet of tools/compare.py: the picture of README.md.

    python docs/pictures/rows.py docs/results/bccd/sheet.png 3 4 --out docs/images/bccd.png
"""
import argparse
from typing import List, Tuple

import numpy as np
from PIL import Image

LEAST = 40
"""A stripe of so many rows of pixels is one of pictures, not of letters."""


def stripes(pixels: np.ndarray) -> List[Tuple[int, int]]:
    """First and last row of pixels of each stripe of pictures, between white rows."""
    dark = (pixels < 250).any((1, 2))
    edges = np.flatnonzero(np.diff(np.r_[0, dark.astype(int), 0]))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2) if end - start >= LEAST]


def cut(sheet: Image.Image, numbers: List[int]) -> Image.Image:
    """The heading of a sheet, and the rows with these numbers, from 1."""
    pixels = np.asarray(sheet.convert('RGB'))
    found = stripes(pixels)
    gap = found[1][0] - found[0][1]
    parts = [pixels[:found[0][0]]]
    for number in numbers:
        start, end = found[number - 1]
        parts += [pixels[start:end], np.full_like(pixels[:gap], 255)]
    return Image.fromarray(np.concatenate(parts))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('sheet')
    parser.add_argument('rows', nargs='+', type=int)
    parser.add_argument('--out', required=True)
    args = parser.parse_args()
    cut(Image.open(args.sheet), args.rows).quantize(128).save(args.out, optimize=True)
