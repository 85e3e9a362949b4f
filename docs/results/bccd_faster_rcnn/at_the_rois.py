"""How good are student and teacher at the RoIs that the student samples? Answers for one run.

    python docs/results/bccd_faster_rcnn/at_the_rois.py \
        work_dirs/bccd_faster_rcnn/dist/seed0/config.py \
        work_dirs/bccd_faster_rcnn/student/seed0/epoch_12.pth

The first argument is a config with a teacher, the second the student's weights. Prints accuracy and
cross entropy of both on the labels that the student's own loss uses, over training and validation
images.
"""
import argparse
import copy
from typing import Any, List, Tuple

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor
from torch.nn.functional import cross_entropy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--batches', type=int, default=10)
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    config.update(work_dir='work_dirs/at_the_rois', log_level='ERROR',
                  val_cfg=None, val_dataloader=None, val_evaluator=None)
    runner = Runner.from_cfg(config)
    model = runner.model
    model.prepare()
    load_checkpoint(model, args.checkpoint, strict=True)
    model.eval()
    for split in ('train', 'val'):
        loader = copy.deepcopy(config.train_dataloader)
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.ann_file = loader.dataset.ann_file.replace('train', split)
        loader.dataset.data_prefix.img = f'{split}/'
        student, teacher, labels = look(model, runner.build_dataloader(loader, seed=0),
                                        args.batches)
        print(f'{split}: {len(labels)} RoIs' + ''.join(
            f'; {name}: {100 * (logits.argmax(1) == labels).float().mean():.1f} % right, '
            f'cross entropy {cross_entropy(logits, labels):.3f}'
            for name, logits in (('student', student), ('teacher', teacher))))


@torch.no_grad()
def look(model: Any, loader: Any, batches: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher and the labels, at the student's RoIs of some batches."""
    torch.manual_seed(0)
    kept: List[Tuple[Tensor, Tensor]] = []
    labels: List[Tensor] = []
    match, head = model.matches[0], model.student.roi_head.bbox_head
    compare, loss_and_target = match.compare, head.loss_and_target

    def watched_compare(seen: Any, told: Any, *rest: Any) -> List[Tensor]:
        (student, ), (teacher, ) = match.levels(seen, told)
        kept.append((student, teacher))
        return [student.sum() * 0]

    def watched_loss(*positional: Any, **named: Any) -> Any:
        output = loss_and_target(*positional, **named)
        labels.append(output['bbox_targets'][0])
        return output

    match.compare, head.loss_and_target = watched_compare, watched_loss
    for data, _ in zip(loader, range(batches)):
        data = model.data_preprocessor(data, True)
        model(data['inputs'], data['data_samples'], mode='loss')
    match.compare, head.loss_and_target = compare, loss_and_target
    student, teacher = (torch.cat(side) for side in zip(*kept))
    return student, teacher, torch.cat(labels)


if __name__ == '__main__':
    main()
