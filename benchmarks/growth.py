"""Measure how the time and memory of losses grow: with classes, positions, images and terms.

    python benchmarks/growth.py --out docs/results/methods
    python benchmarks/growth.py --losses DIST CIRKD --axes positions --rounds 3 --out work_dirs/more
    python benchmarks/growth.py --join work_dirs/growth work_dirs/more --out docs/results/methods

Each loss is called alone, forward and backward, on maps whose size grows along one axis, in a
process of its own for each loss and axis. The axis 'terms' has one to eight KD terms: the time is
what they add to a step that only observes the teacher, the memory that of the step. A slope is that
of the logarithms, by least squares: 1 grows as the input does. Sizes whose tensors would take more
than --most are left out. A curve that has been measured with the same options and machine is not
measured again; delete its file in `curves` of the work dir to repeat it.

Output: `growth.json`, `growth.md` and `growth.png`.
"""
import argparse
import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Tuple

import tools_on_path  # noqa: F401
import torch
from command import Parser, last_words, run
from common import read_config
from loss_calls import (
    is_of_logits,
    loss_of,
    names_of_losses,
    nothing_at,
    prepared,
)
from measuring import GIVE_BACK, as_table, cpu_name, peak, reset_peak, timed
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from steps import FLOAT32, Setting, step_of, without_weights

from mmkd.networks.frozen import model_config

ANCHORS = 9
COPIES = 6
"""Estimated number of tensors of the input's size that a loss keeps in memory."""
AXES: Dict[str, List[int]] = dict(classes=[3, 80, 365, 1203], positions=[64, 96, 128, 192, 256],
                                  images=[1, 2, 4, 8, 16], terms=[1, 2, 4, 8])
"""Sizes on each axis. For 'positions', the side length of the map."""


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--losses', nargs='+', default=['all'],
                        help="names without 'Loss'; all by default")
    parser.add_argument('--axes', nargs='+', choices=AXES, default=list(AXES))
    parser.add_argument('--sizes', type=int, nargs='+', help='with one of --axes: its sizes')
    parser.add_argument('--side', type=int, default=64, help='of maps; 64 by default')
    parser.add_argument('--channels', type=int, default=256, help='of features; 256 by default')
    parser.add_argument('--student', default='mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
                        help='of the terms')
    parser.add_argument('--teacher', default='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    parser.add_argument('--size', type=int, nargs=2, default=[512, 512], metavar=('H', 'W'),
                        help='of the images of the terms')
    parser.add_argument('--batch-size', type=int, default=2, help='of the terms')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--longest', type=float, default=120,
                        help='seconds after which larger sizes are left out')
    parser.add_argument('--most', type=float, default=6, help='GiB that the tensors may take')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--work-dir', '--out', default='work_dirs/growth')
    parser.add_argument('--join', nargs='+', metavar='FOLDER', help='measure nothing; one table '
                        'and plot of all curves in these work dirs, of equal ones the last')
    parser.add_argument('--only', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sizes and len(args.axes) != 1:
        parser.error('--sizes goes with one of --axes')
    if args.join and not set(sys.argv[1:]) & {'--out', '--work-dir'}:
        parser.error('--join writes the table of other work dirs: say where by --out')
    if args.losses == ['all']:
        args.losses = names_of_losses()
    unknown = set(args.losses) - set(names_of_losses())
    if unknown:
        parser.error(f'--losses {" ".join(sorted(unknown))}: there are '
                     f'{", ".join(names_of_losses())}')
    return args


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('growth', log_level='WARNING')
    if args.only:
        axis, loss, sizes = args.only.split('/')
        return print_measured(args, axis, loss, [int(size) for size in sizes.split(',') if size])
    folder = Path(args.work_dir)
    if args.join:
        return write(folder, *joined([Path(one) for one in args.join]))
    (folder / 'curves').mkdir(parents=True, exist_ok=True)
    curves: Dict[str, Dict[str, Any]] = {}
    for axis in args.axes:
        sizes = args.sizes or AXES[axis]
        for loss in ['KD'] if axis == 'terms' else [
                one for one in args.losses if is_for(axis, one)]:
            curves.setdefault(axis, {})[loss] = kept_curve(
                args, folder / 'curves' / f'{axis}_{loss}.json', axis, loss, sizes)
    write(folder, machine_of(args), curves)


def joined(folders: List[Path]) -> Tuple[str, Dict[str, Dict[str, Any]]]:
    """Return the machine and all curves that are kept in folders of several calls."""
    curves: Dict[str, Dict[str, Any]] = {axis: {} for axis in AXES}
    machines: Dict[str, Path] = {}
    for folder in folders:
        paths = sorted(folder.glob('curves/*.json'))
        if not paths:
            raise SystemExit(f'--join: {folder} has no curves/*.json; give the work dirs of '
                             'earlier calls')
        for path in paths:
            axis, _, loss = path.stem.partition('_')
            try:
                kept = json.loads(path.read_text())
                machines[kept['of']['machine']] = path
                curves[axis][loss] = kept['curve']
            except (ValueError, KeyError) as error:
                raise SystemExit(f'--join: {path} is no curve of this benchmark: {error!r}; '
                                 'delete it, and measure it again') from error
    if len(machines) > 1:
        found = '; '.join(f'{path}: {machine}' for machine, path in machines.items())
        raise SystemExit(f'--join: expected curves of one machine, but found {found}; join those '
                         'of one machine')
    return next(iter(machines)), {
        axis: dict(sorted(losses.items())) for axis, losses in curves.items() if losses}


def write(folder: Path, machine: str, curves: Dict[str, Dict[str, Any]]) -> None:
    """Write growth.json, growth.md and growth.png."""
    folder.mkdir(parents=True, exist_ok=True)
    found = dict(machine=machine, curves=curves)
    (folder / 'growth.json').write_text(json.dumps(found, indent=1) + '\n')
    text = f'{machine}\n\n{table_of(curves)}'
    (folder / 'growth.md').write_text(text)
    draw(curves, folder / 'growth.png')
    print(f'\n{text}\nWritten to {folder}')


# --- measurements -------------------------------------------------------------------------------


def is_for(axis: str, name: str) -> bool:
    """Whether a loss can be called alone and, on the axis of classes, compares logits."""
    loss = loss_of(name)
    return loss is not None and (axis != 'classes' or is_of_logits(loss))


def shape_at(args: argparse.Namespace, axis: str, name: str, size: int) -> Tuple[int, ...]:
    """Return the shape of the maps of student and teacher."""
    loss = loss_of(name)
    assert loss is not None
    channels = ANCHORS * 80 if is_of_logits(loss) else args.channels
    return (size if axis == 'images' else 2, ANCHORS * size if axis == 'classes' else channels,
            *[size if axis == 'positions' else args.side] * 2)


def amount_of(args: argparse.Namespace, axis: str, name: str, size: int) -> int:
    """Return the size on the axis: the number of elements of a map, or of terms."""
    return size if axis == 'terms' else math.prod(shape_at(args, axis, name, size))


def print_measured(args: argparse.Namespace, axis: str, name: str, sizes: List[int]) -> None:
    """Print a line of JSON for each size, until one of them takes too long."""
    if sizes and axis != 'terms':
        measured(args, axis, name, sizes[0])  # what is loaded once would count for the first size
    for size in sizes:
        found = measured_terms(args, size) if axis == 'terms' else measured(args, axis, name, size)
        print(json.dumps(dict(found, sizes=size)), flush=True)
        if found['seconds'] * (args.rounds + 2) > args.longest:
            raise SystemExit(f'{size} took {found["seconds"]:.0f} s')


def measured(args: argparse.Namespace, axis: str, name: str, size: int) -> Dict[str, float]:
    """Measure seconds and MiB for one size."""
    loss = loss_of(name)
    assert loss is not None
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(shape_at(args, axis, name, size), generator=generator
                                    ).to(args.device) for _ in range(2))
    student.requires_grad_()
    value = prepared(loss, student, teacher, generator)

    def step() -> None:
        student.grad = None
        value(student, teacher).backward()

    reset_peak(args.device)
    before = peak(args.device)
    step()
    memory = peak(args.device) - before
    return dict(seconds=median(timed(dict(step=step), args)['step']), memory=memory)


def measured_terms(args: argparse.Namespace, count: int) -> Dict[str, float]:
    """Measure the time of a number of terms in a training step.

    Rounds with and without the terms alternate.
    """
    MessageHub.get_current_instance().update_info('epoch', 0)
    student, teacher = read_config(args.student), read_config(args.teacher)
    entries = [dict(type='mmkd.KDLoss', on='cls', name=f'loss_{number}') for number in range(count)]

    def step_with(distill: List[Dict[str, Any]]) -> Callable[[], Any]:
        config = copy.deepcopy(student)
        config.model = ConfigDict(type='mmkd.Distiller', student=model_config(student),
                                  teacher=dict(config=teacher), distill=distill)
        config = Config(without_weights(config))
        return step_of(args, config, config.model)(Setting(args.batch_size, FLOAT32))

    bare = step_with([nothing_at(entries[0])])
    bare()
    reset_peak(args.device)
    before = peak(args.device)
    steps = dict(bare=bare, terms=step_with(entries))
    memory = peak(args.device)
    found = timed(steps, args)
    return dict(seconds=max(median(found['terms']) - median(found['bare']), 0.),
                memory=max(peak(args.device) - max(memory, before), 0.))


def kept_curve(args: argparse.Namespace, path: Path, axis: str, name: str,
               sizes: List[int]) -> Dict[str, Any]:
    """Return the figures of a file, if they are of the same measurement; otherwise measure them."""
    of = {key: value for key, value in vars(args).items()
          if key not in ('losses', 'axes', 'work_dir', 'only', 'join')}
    of = json.loads(json.dumps(dict(of, sizes=sizes, machine=machine_of(args))))
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept['of'] == of:
            return dict(kept['curve'])
    found = json.loads(json.dumps(curve(args, axis, name, sizes)))
    writing = path.with_suffix('.part')
    writing.write_text(json.dumps(dict(of=of, curve=found)))
    writing.replace(path)
    return dict(found)


def machine_of(args: argparse.Namespace) -> str:
    machine = torch.cuda.get_device_name() if args.device.startswith('cuda') else (
        f'CPU, {torch.get_num_threads()} threads, {cpu_name() or "unknown"}')
    return f'{machine}; torch {torch.__version__}'


def curve(args: argparse.Namespace, axis: str, name: str, sizes: List[int]) -> Dict[str, Any]:
    """Return the figures along an axis, and their slopes."""
    found: Dict[str, Any] = dict(sizes=[], amounts=[], seconds=[], memory=[], left_out={})
    amounts = {size: amount_of(args, axis, name, size) for size in sizes}
    needed = {size: 0 if axis == 'terms' else 4 * COPIES * amount / 2**30
              for size, amount in amounts.items()}
    able = [size for size in sizes if needed[size] <= args.most]
    print(f'{axis}: {name} at {", ".join(map(str, able)) or "no size"}', flush=True)
    ended = subprocess.run([sys.executable, '-W', 'ignore', *sys.argv, '--only',
                            f'{axis}/{name}/{",".join(map(str, able))}'],
                           capture_output=True, text=True, env=dict(os.environ, **GIVE_BACK))
    for line in ended.stdout.splitlines():
        if line.startswith('{'):
            one = json.loads(line)
            for key, value in dict(one, amounts=amounts[one['sizes']]).items():
                found[key].append(value)
    for size in sizes:
        if size not in able:
            found['left_out'][size] = f'its tensors may take {needed[size]:.0f} GiB'
        elif size not in found['sizes']:
            found['left_out'][size] = last_words(ended.stderr)
    found['slopes'] = {key: slope(found['amounts'], found[key]) for key in ('seconds', 'memory')}
    return found


def slope(x: List[float], y: List[float]) -> Optional[float]:
    """Of log y over log x, by least squares; None for less than two points.

    Example:
        >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    points = [(math.log(a), math.log(b)) for a, b in zip(x, y) if a > 0 and b > 0]
    if len({a for a, _ in points}) < 2:
        return None
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    return sum((a - mean_x) * (b - mean_y) for a, b in points) / sum(
        (a - mean_x)**2 for a, _ in points)


# --- output -------------------------------------------------------------------------------------


def table_of(curves: Dict[str, Dict[str, Any]]) -> str:
    text = ''
    for axis, losses in curves.items():
        rows = [['loss', 'sizes', 'slope of time', 'slope of memory', 'seconds', 'MiB']]
        for name, one in losses.items():
            rows.append([name, ', '.join(map(str, one['sizes'])),
                         *[_shown(one['slopes'][key]) for key in ('seconds', 'memory')],
                         ', '.join(f'{value:.2g}' for value in one['seconds']),
                         ', '.join(f'{value:.0f}' for value in one['memory'])])
        left_out = [f'{name} at {size}: {why}' for name, one in losses.items()
                    for size, why in one['left_out'].items()]
        text += f'## {axis}\n\n{as_table(rows)}\n' + (
            f'Left out: {"; ".join(left_out)}.\n\n' if left_out else '')
    return text


def _shown(value: Optional[float]) -> str:
    return '–' if value is None else f'{value:.2f}'


def draw(curves: Dict[str, Dict[str, Any]], path: Path) -> None:
    """Plot time and memory on logarithmic axes; a legend beside each row has both slopes."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(len(curves), 2, figsize=(16, 4.2 * len(curves)), squeeze=False)
    for row, (axis, losses) in zip(axes, curves.items()):
        for place, key, unit in zip(row, ('seconds', 'memory'), ('seconds', 'MiB')):
            for number, (name, one) in enumerate(losses.items()):
                points = [(x, y) for x, y in zip(one['amounts'], one[key]) if y > 0]
                if points:
                    # Ten colours: further losses have another line.
                    place.plot(*zip(*points), color=f'C{number % 10}', linewidth=1,
                               linestyle=('-', '--', ':')[number // 10 % 3],
                               marker=('.', 'x', '+')[number // 10 % 3], label=' '.join([
                                   name, *(_shown(slope) for slope in one['slopes'].values())]))
            place.set(xscale='log', yscale='log', title=axis, ylabel=unit,
                      xlabel='terms' if axis == 'terms' else 'elements of a map')
            place.grid(alpha=0.3)
        row[1].legend(fontsize=7, title='slopes of time and memory', title_fontsize=7,
                      loc='upper left', bbox_to_anchor=(1.02, 1.02))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == '__main__':
    run(main)
