"""Make a small data set for detectors, segmentors or classifiers from real handwritten digits.

    python tools/make_digits.py data/digits
    python tools/make_digits.py data/digit_images --single --size 16

The 1,797 digits in scikit-learn (the test set of the UCI Optical Recognition of Handwritten Digits)
are scaled, colored and drawn on textured backgrounds. No digit of the training images occurs in a
validation image. Similar digits (1/7, 3/8, 4/9) are twice as frequent as the others, because for
these soft targets have more information than labels.

Files, in FOLDER, for the splits train and val:
    annotations/instances_{train,val}.json            boxes, COCO format
    leftImg8bit/{train,val}/digits/*_leftImg8bit.png  images
    gtFine/{train,val}/digits/*_gtFine_labelTrainIds.png  label maps: digit d is d, background 10

With --single, every digit is an image of its own, with noise, in the folders of ImageNet:
    {train,val}/{0,...,9}/*.png
"""
import argparse
import json
import os
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np
from command import Parser, run
from sklearn.datasets import load_digits
from tqdm import trange

LOOK_ALIKES = (1, 7, 3, 8, 4, 9)
BACKGROUND = 10


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', help='where the data set is written')
    parser.add_argument('--train', type=int, default=640, help='number of training images')
    parser.add_argument('--val', type=int, default=160, help='number of validation images')
    parser.add_argument('--single', action='store_true', help='every digit as an image, for '
                        'classifiers; --train and --val do not count')
    parser.add_argument('--size', type=int, default=128, help='height and width in pixels')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def make_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Float (size, size, 3) in [0, 1]: noise of several scales, with random brightness."""
    image = np.zeros((size, size, 3), np.float32)
    for cells in (2, 4, 8, 16, 32):
        noise = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) / cells**0.5
    image += rng.normal(scale=0.15, size=image.shape)
    image = rng.uniform(0.25, 0.75) + image * rng.uniform(0.06, 0.14)
    return np.clip(image, 0, 1)


def place_digit(image: np.ndarray, labels: np.ndarray, taken: np.ndarray, digit: np.ndarray,
                label: int, rng: np.random.Generator) -> List[float]:
    """Draw one digit where no other is; return its box [x, y, w, h], [] if no place was found."""
    size = len(image)
    side = int(np.exp(rng.uniform(np.log(16), np.log(56))))
    angle, aspect = rng.uniform(-12, 12), rng.uniform(0.8, 1.2)
    height, width = min(side, size), min(max(8, int(side * aspect)), size)
    ink = np.pad(digit.astype(np.float32) / 16, 1)  # ink reaches the rim of the 8x8 scans
    ink = cv2.resize(ink, (width, height), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    ink = np.clip(cv2.warpAffine(ink, turn, (width, height)), 0, 1)
    rows, columns = np.where((ink > 0.4).any(1))[0], np.where((ink > 0.4).any(0))[0]
    if not len(rows):
        return []
    for _ in range(20):
        y, x = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        window = np.s_[y:y + height, x:x + width]
        if taken[window].any():
            continue
        taken[window] = True
        ground = image[window].mean()
        contrast = rng.uniform(0.25, 0.5) * (1 if ground < 0.5 else -1)
        colour = np.clip(ground + contrast + rng.uniform(-0.15, 0.15, 3), 0, 1)
        image[window] += ink[..., None] * (colour - image[window])
        labels[window][ink > 0.4] = label
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        return [float(v) for v in (x + left, y + top, right - left, bottom - top)]
    return []


def make_image(digits: np.ndarray, targets: np.ndarray, size: int,
               rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray, List[dict]]:
    """One image (size, size, 3) uint8, its label map, and its objects."""
    image = make_background(size, rng)
    labels = np.full((size, size), BACKGROUND, np.uint8)
    taken = np.zeros((size, size), bool)
    weights = np.where(np.isin(targets, LOOK_ALIKES), 2.0, 1.0)
    objects = []
    for index in rng.choice(len(digits), rng.integers(3, 8), p=weights / weights.sum()):
        label = int(targets[index])
        box = place_digit(image, labels, taken, digits[index], label, rng)
        if box:
            objects.append(dict(bbox=box, category_id=label))
    image = np.clip(image + rng.normal(scale=0.04, size=image.shape), 0, 1)
    return (image * 255).astype(np.uint8), labels, objects


def write_split(folder: str, split: str, count: int, digits: np.ndarray, targets: np.ndarray,
                size: int, rng: np.random.Generator) -> None:
    """Write images, label maps and the COCO file of one split."""
    images_dir = os.path.join(folder, 'leftImg8bit', split, 'digits')
    labels_dir = os.path.join(folder, 'gtFine', split, 'digits')
    for path in (images_dir, labels_dir, os.path.join(folder, 'annotations')):
        os.makedirs(path, exist_ok=True)
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for number in trange(count, desc=f'{split} images', ncols=80):
        image, labels, objects = make_image(digits, targets, size, rng)
        stem = f'digits_{number:06d}_000019'
        name = f'digits/{stem}_leftImg8bit.png'
        cv2.imwrite(os.path.join(folder, 'leftImg8bit', split, name), image)
        cv2.imwrite(os.path.join(labels_dir, f'{stem}_gtFine_labelTrainIds.png'), labels)
        images.append(dict(id=number, file_name=name, height=size, width=size))
        for item in objects:
            annotations.append(
                dict(item, id=len(annotations) + 1, image_id=number, iscrowd=0,
                     area=item['bbox'][2] * item['bbox'][3]))
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=digit, name=str(digit)) for digit in range(10)])
    with open(os.path.join(folder, 'annotations', f'instances_{split}.json'), 'w') as file:
        json.dump(content, file)


def write_single(folder: str, split: str, digits: np.ndarray, targets: np.ndarray, size: int,
                 rng: np.random.Generator) -> None:
    """Write each digit as an image (size, size) with noise, in the folder of its class."""
    for number, (digit, target) in enumerate(zip(digits, targets)):
        place = os.path.join(folder, split, str(target))
        os.makedirs(place, exist_ok=True)
        ink = cv2.resize(np.pad(digit.astype(np.float32) / 16, 1), (size, size),
                         interpolation=cv2.INTER_CUBIC)
        image = np.clip(0.25 + ink / 2 + rng.normal(scale=0.2, size=ink.shape), 0, 1)
        cv2.imwrite(os.path.join(place, f'{number:06d}.png'), (image * 255).astype(np.uint8))


def main() -> None:
    args = parse_args()
    rng = np.random.default_rng(args.seed)
    data = load_digits()
    order = rng.permutation(len(data.images))
    held_out = len(order) // 3
    splits = dict(val=(order[:held_out], args.val), train=(order[held_out:], args.train))
    if args.single:
        for split, (chosen, _) in splits.items():
            write_single(args.folder, split, data.images[chosen], data.target[chosen], args.size,
                         rng)
        print(f'{len(order) - held_out} training and {held_out} validation images in '
              f'{args.folder}')
        return
    for split, (chosen, count) in splits.items():
        write_split(args.folder, split, count, data.images[chosen], data.target[chosen], args.size,
                    rng)
    print(f'{args.train} training and {args.val} validation images in {args.folder}')


if __name__ == '__main__':
    run(main)
