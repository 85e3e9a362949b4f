"""Draw the pictures of docs/how_it_works.md.

    python docs/pictures/draw.py            # writes docs/images/*.svg
"""
import sys
from pathlib import Path
from typing import Callable, Dict

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from style import IDLE, PLAIN, STUDENT, TEACHER, TERM, Picture

IMAGES = Path(__file__).resolve().parents[1] / 'images'


def batch() -> Picture:
    """The way of a batch through student and teacher."""
    art = Picture(600, 548, 'The way of a batch: both networks see the images, a term compares '
                  'their class logits, and the gradient reaches the student alone.')
    art.box(200, 16, 200, 40, 'images and labels')
    art.text(140, 96, 'student', STUDENT, is_bold=True)
    art.text(460, 96, 'teacher, frozen', TEACHER, is_bold=True)
    art.arrow([(250, 56), (140, 82)])
    art.arrow([(350, 56), (460, 82)])
    for y, name in ((114, 'backbone'), (178, 'neck')):
        art.box(50, y, 180, 40, name, STUDENT)
        art.box(370, y, 180, 40, name, TEACHER)
        art.arrow([(140, y + 40), (140, y + 64)], STUDENT)
        art.arrow([(460, y + 40), (460, y + 64)], TEACHER)
    art.box(20, 242, 115, 56, 'head:\nboxes', STUDENT)
    art.box(145, 242, 115, 56, 'head:\nclass logits', STUDENT)
    art.box(340, 242, 115, 56, 'head:\nclass logits', TEACHER)
    art.box(465, 242, 115, 56, 'head:\nboxes', IDLE, is_dashed=True)
    art.text(522, 316, 'does not run', IDLE, size=14)
    art.box(20, 360, 190, 56, "the student's losses\nloss_cls, loss_bbox", STUDENT)
    art.arrow([(77, 298), (77, 360)], STUDENT)
    art.arrow([(170, 298), (170, 360)], STUDENT)
    art.box(240, 360, 190, 56, 'term: DIST on cls\nloss_cls_dist', TERM)
    art.arrow([(235, 298), (290, 360)], STUDENT)
    art.arrow([(397, 298), (380, 360)], TEACHER)
    art.text(400, 338, 'no gradient', TEACHER, 'start', 14)
    art.box(100, 462, 250, 40, 'one dict of losses', PLAIN)
    art.arrow([(115, 416), (160, 462)], STUDENT)
    art.arrow([(335, 416), (290, 462)], TERM)
    art.text(225, 526, 'MMEngine adds them up, and optimizes the student', size=14)
    return art


def dist() -> Picture:
    """What DIST correlates, with the correlations of made-up logits."""
    positions, classes, size = 6, 5, 34
    random = np.random.default_rng(4)
    teacher = random.normal(0, 1.3, (positions, classes))
    student = .75 * teacher + random.normal(0, .7, teacher.shape)
    shares = [np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in (student, teacher)]
    row, column = 1, 3
    art = Picture(600, 450, 'DIST correlates the classes of a position (a row) and the positions '
                  'of a class (a column) of the probabilities of student and teacher.')
    for left, name, color, values in ((60, 'student', STUDENT, shares[0]),
                                      (370, 'teacher', TEACHER, shares[1])):
        art.text(left + classes * size / 2, 26, name, color, is_bold=True)
        art.text(left + classes * size / 2, 50, f'{classes} classes', size=14)
        for m, c in np.ndindex(positions, classes):
            art.cell(left + c * size, 66 + m * size, size, float(values[m, c]), color)
        art.frame(left, 66 + row * size, classes * size, size, TERM)
        art.frame(left + column * size, 66, size, positions * size, PLAIN)
    for left in (16, 326):
        art.parts.append(f'<g transform="rotate(-90 {left + 22} {66 + positions * size / 2})">')
        art.text(left + 22, 66 + positions * size / 2, f'{positions} positions', size=14)
        art.parts.append('</g>')
    inter = float(np.corrcoef(shares[0][row], shares[1][row])[0, 1])
    intra = float(np.corrcoef(shares[0][:, column], shares[1][:, column])[0, 1])
    art.arrow([(230, 66 + (row + .5) * size), (364, 66 + (row + .5) * size)], TERM)
    below = 66 + positions * size
    over = 60 + (column + .5) * size
    art.arrow([(over, below + 2), (over, below + 24), (370 + (column + .5) * size, below + 24),
               (370 + (column + .5) * size, below + 4)], PLAIN)
    art.text(297, 66 + (row + .5) * size - 14, f'ρ = {inter:.2f}', TERM)
    art.text(360, below + 40, f'ρ = {intra:.2f}', PLAIN)
    art.text(20, 345, 'inter-class:', TERM, 'start', is_bold=True)
    art.text(130, 345, '1 − ρ of each row, mean over the positions', anchor='start')
    art.text(20, 375, 'intra-class:', PLAIN, 'start', is_bold=True)
    art.text(130, 375, '1 − ρ of each column, mean over the classes', anchor='start')
    art.text(20, 415, 'ρ ignores scale and offset: the student learns which class, and which '
             'position,',
             anchor='start', size=14)
    art.text(20, 434, 'is more probable than another, not the probabilities themselves.',
             anchor='start', size=14)
    return art


def crosskd() -> Picture:
    """What CrossKD crosses."""
    art = Picture(600, 500, "CrossKD sends a feature of the student's head through the rest of the "
                  "teacher's head, and compares the prediction with the teacher's own.")
    art.text(110, 24, "student's head", STUDENT, is_bold=True)
    art.text(480, 24, "teacher's head, frozen", TEACHER, is_bold=True)
    steps = ('convolution 1', 'convolution 2', 'convolution 3', 'convolution 4', 'class logits')
    for number, name in enumerate(steps):
        y = 46 + number * 66
        art.box(20, y, 180, 42, name, STUDENT)
        art.box(390, y, 180, 42, name, TEACHER)
        if number:
            art.arrow([(110, y - 24), (110, y)], STUDENT)
            art.arrow([(500, y - 24), (500, y)], TEACHER)
    third, fourth, last = (46 + number * 66 for number in (2, 3, 4))
    art.arrow([(200, third + 21), (290, third + 21), (290, fourth + 21), (390, fourth + 21)],
              STUDENT)
    art.text(296, third + 10, 'the feature crosses', STUDENT, 'middle', 14)
    art.arrow([(430, fourth + 42), (430, last)], STUDENT)
    art.arrow([(390, last + 21), (310, last + 21), (310, 400)], STUDENT)
    art.text(304, last + 42, 'crossed', STUDENT, 'end', 14)
    art.text(304, last + 60, 'prediction', STUDENT, 'end', 14)
    art.box(215, 400, 190, 46, 'compared', TERM)
    art.arrow([(500, 352), (500, 423), (405, 423)], TEACHER)
    art.text(508, 394, 'own', TEACHER, 'start', 14)
    art.text(508, 412, 'prediction', TEACHER, 'start', 14)
    art.box(20, 400, 140, 46, 'labels', STUDENT)
    art.arrow([(90, 352), (90, 400)], STUDENT)
    art.text(300, 474, "The gradient goes back through the teacher's layers to the student's first "
             'three.', size=14)
    return art


PICTURES: Dict[str, Callable[[], Picture]] = dict(batch=batch, dist=dist, crosskd=crosskd)
if __name__ == '__main__':
    for name, drawn in PICTURES.items():
        (IMAGES / f'{name}.svg').write_text(drawn().svg())
        print(IMAGES / f'{name}.svg')
