"""Soft decision trees on the pixels of digits: accuracy, and the tree with its filters.

    python benchmarks/soft_tree_images.py docs/results/soft_tree

The experiment of Frosst and Hinton (2017) on the 1,797 digits of scikit-learn, 8x8 pixels, a third
of them held out: a convolutional network teaches a tree, and a linear classifier. Each is trained
on the labels alone, and on the teacher's probabilities alone. Takes a minute on one core.
"""
import argparse
import os
from statistics import mean, stdev
from typing import Callable, Dict, List, Optional

import tools_on_path  # noqa: F401
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from tree_plots import plot_tree

from mmkd import KDLoss, SoftTree

ITERATIONS, BATCH, RATE = 800, 64, 5e-3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='where the picture is written')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--depth', type=int, default=5)
    parser.add_argument('--tau', type=float, default=1., help='temperature of the distillation')
    return parser.parse_args()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(1024, 10))


def shifted(images: Tensor) -> Tensor:
    """Shift all images (M, 64) by the same offset of up to one pixel."""
    x, y = torch.randint(3, (2, )).tolist()
    return pad(images.reshape(-1, 8, 8), (1, 1, 1, 1))[:, y:y + 8, x:x + 8].flatten(1)


def train(student: nn.Module, images: Tensor, labels: Tensor,
          teacher: Optional[nn.Module] = None, tau: float = 1.) -> None:
    optimizer = torch.optim.AdamW(student.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    distill = KDLoss(tau=tau)
    trees = [one for one in student.modules() if isinstance(one, SoftTree)]
    for _ in range(ITERATIONS):
        chosen = torch.randint(len(images), (BATCH, ))
        batch = shifted(images[chosen])
        logits = student(batch)
        if teacher is None:
            loss = cross_entropy(logits, labels[chosen])
        else:
            with torch.no_grad():
                told = teacher(batch)
            loss = distill(logits, told)
        loss = loss + sum(one.penalty() for one in trees)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    student.eval()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    data = load_digits()
    images = torch.tensor(data.images).flatten(1).float() / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held, rest = order[:len(order) // 3], order[len(order) // 3:]

    def accuracy(model: nn.Module) -> float:
        return 100 * (model(images[held]).argmax(1) == labels[held]).float().mean().item()

    torch.manual_seed(0)
    teacher = network()
    train(teacher, images[rest], labels[rest])
    makers: Dict[str, Callable[[], nn.Module]] = {
        'linear': lambda: nn.Linear(64, 10),
        f'soft tree, {2**args.depth} leaves': lambda: SoftTree(64, 10, args.depth)}
    found: Dict[str, Dict[str, List[float]]] = {}
    for name, make in makers.items():
        for way, source in (('alone', None), ('distilled', teacher)):
            for seed in args.seeds:
                torch.manual_seed(seed)
                student = make()
                train(student, images[rest], labels[rest], source, args.tau)
                found.setdefault(name, {}).setdefault(way, []).append(accuracy(student))
                if seed == args.seeds[0] and isinstance(student, SoftTree) and source is not None:
                    plot_tree(student, list('0123456789'),
                              os.path.join(args.folder, 'tree_of_pixels.png'),
                              student.routes(images[held]), filter_shape=(1, 8, 8))
    rows = [f'| {name} | ' + ' | '.join(
        f'{mean(values):.1f} ± {stdev(values) if len(values) > 1 else 0:.1f}'
        for values in ways.values()) + ' |' for name, ways in found.items()]
    table = '\n'.join(['| student | alone | distilled |', '|---|---|---|', *rows,
                       f'| teacher, convolutional | {accuracy(teacher):.1f} | |'])
    print(f'accuracy on {len(held)} images, mean and deviation of seeds {args.seeds}\n\n{table}')


if __name__ == '__main__':
    main()
