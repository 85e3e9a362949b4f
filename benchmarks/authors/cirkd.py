"""What CIRKD's authors compute: relations of the mini-batch, and of both memories.

    git clone https://github.com/winycg/CIRKD clone
    python benchmarks/authors/cirkd.py clone

Their code needs a GPU, and computes in float32; here it runs on the CPU in float64. Their memory is
small here, and what they drew from it is recorded.
"""
import sys
from pathlib import Path

import torch
from recording import Case, write
from torch import Tensor, nn

REPOSITORY = 'https://github.com/winycg/CIRKD'
CLASSES, PIXELS, REGIONS = 3, 9, 4


def main(clone: str) -> None:
    sys.path.insert(0, str(Path(clone) / 'losses'))
    torch.set_default_dtype(torch.float64)
    Tensor.cuda = lambda self: self  # type: ignore[assignment,method-assign]
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    nn.SyncBatchNorm = nn.BatchNorm2d  # type: ignore[misc,assignment]
    from cirkd_memory import StudentSegContrast
    from cirkd_mini_batch import CriterionMiniBatchCrossImagePair
    generator = torch.Generator().manual_seed(0)
    cases = []
    for count in (1, 3):
        student = torch.randn(count, 4, 3, 2, generator=generator).requires_grad_()
        teacher = torch.randn(count, 6, 3, 2, generator=generator)
        value = CriterionMiniBatchCrossImagePair(0.1)(student, teacher)
        value.backward()
        cases.append(Case(dict(tau=0.1), dict(student=student, teacher=teacher),
                          dict(minibatch=value, gradient=student.grad)))
    drawn = []
    permuted = torch.randperm

    def randperm(length: int) -> Tensor:
        drawn.append(permuted(length, generator=generator))
        return drawn[-1]

    torch.randperm = randperm  # type: ignore[assignment]
    StudentSegContrast.concat_all_gather = lambda self, tensor: tensor
    torch.manual_seed(0)
    loss = StudentSegContrast(
        num_classes=CLASSES, pixel_memory_size=PIXELS, region_memory_size=REGIONS,
        region_contrast_size=2, pixel_contrast_size=3, contrast_kd_temperature=1.,
        contrast_temperature=0.1, s_channels=4, t_channels=6, ignore_label=-1)
    # Two images of one class each, where all positions of a class are all of the image; and one
    # that is ignored in part. Labels are larger than features.
    label_map = torch.ones(3, 6, 4, dtype=torch.long)
    label_map[1], label_map[2] = 2, -1
    label_map[2, 2:4, 2:4] = 0
    student = torch.randn(3, 4, 3, 2, generator=generator).requires_grad_()
    teacher = torch.randn(3, 6, 3, 2, generator=generator)
    weights = [one.detach().clone() for one in loss.project_head.parameters()]
    parts = loss(student, teacher, label_map, label_map)
    sum(parts).backward()
    pixels, regions = loss.teacher_pixel_queue, loss.teacher_segment_queue
    pixel_slots, region_slots = drawn[-2][:3], drawn[-1][:2]
    cases.append(Case(
        dict(tau=0.1),
        dict(student=student, teacher=teacher, label_map=label_map, weights=weights,
             pixel_keys=pixels[:, pixel_slots].flatten(0, 1),
             region_keys=regions[:, region_slots].flatten(0, 1)),
        dict(pixel=parts[0], region=parts[1], gradient=student.grad,
             weights=[one.grad for one in loss.project_head.parameters()],
             # What was stored: a region of each class, and all six pixels of classes 1 and 2.
             regions=regions[:, 0], pixels=pixels[1:, :6])))
    write('cirkd', REPOSITORY, clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
