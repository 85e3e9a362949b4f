"""After how many epochs does a cache of the teacher's outputs pay?"""
import copy
import tempfile
from typing import Any, Dict, List, Optional, Sequence

import torch

from ..networks import CachedTeacher, FrozenTeacher
from ..points.recorder import evaluating
from ..training.distillation import Distillation
from .pull import clock

VARIANTS = 4
"""Augmented variants of each image that :class:`mmkd.Replay` repeats by default."""


def cache_costs(student: Any, teacher: FrozenTeacher, entries: Sequence[Dict[str, Any]],
                batches: Sequence[Any], config: Any, images: int) -> Dict[str, Any]:
    """Measure the teacher of a method with a cache and without it.

    Args:
        student (nn.Module): The student.
        teacher (FrozenTeacher): The teacher, prepared.
        entries (Sequence[dict]): The entries of the method.
        batches (Sequence): Batches of the training.
        config (Config): The student's config.
        images (int): Number of training images.

    Returns:
        dict: Per image, in seconds: ``teacher``, ``write`` (with the teacher), ``read``; ``bytes``
        per image; ``gigabytes`` of all variants; ``epochs`` from :func:`break_even`.

    Raises:
        ValueError: If the outputs of this method cannot be cached.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cached = CachedTeacher(teacher.config, teacher.checkpoint, cache=folder,
                               trust_checkpoint=teacher.trust_checkpoint)
        cached.classes, cached.mapping = teacher.classes, teacher.mapping
        cached.states_classes = teacher.states_classes
        sides = {name: Distillation(student, one, list(copy.deepcopy(entries)), config=config)
                 for name, one in (('plain', teacher), ('cached', cached))}
        for one in sides.values():
            one.prepare()
        sides['cached'].begin()
        seconds: Dict[str, List[float]] = dict(teacher=[], write=[], read=[])
        count = 0
        with torch.no_grad(), evaluating(student):
            for number, batch in enumerate(batches):
                data = student.data_preprocessor(copy.deepcopy(batch), True)
                size = len(data['inputs'])
                count += size
                for name, side in (('teacher', 'plain'), ('write', 'cached'), ('read', 'cached')):
                    start = clock()
                    sides[side].ask({}, data['inputs'], data['data_samples'], sides[side].parts)
                    if number or len(batches) == 1:  # the first one finds out what need not run
                        seconds[name].append((clock() - start) / size)
        assert cached.store is not None
        per_image = cached.store.bytes / max(count, 1)
    best = {name: min(values) for name, values in seconds.items()}
    return dict(best, bytes=per_image, gigabytes=per_image * images * VARIANTS / 2**30,
                variants=VARIANTS, epochs=break_even(best['teacher'], best['write'], best['read']))


def break_even(teacher: float, write: float, read: float,
               variants: int = VARIANTS) -> Optional[float]:
    """Number of epochs from which on a run with a cache takes less time than without.

    Without a cache, every epoch runs the teacher: E·t. With it, the first ``variants`` epochs run
    the teacher and write, later ones read: v·w + (E - v)·r. Both are equal at
    E = v·(w - r) / (t - r).

    Args:
        teacher (float): Seconds per image of the teacher, t.
        write (float): Of the teacher and of writing, w.
        read (float): Of reading, r.
        variants (int): Variants of each image, v. Defaults to :data:`VARIANTS`.

    Returns:
        float | None: E; None if reading takes longer than the teacher.

    Example:
        >>> break_even(teacher=1.0, write=1.5, read=0.5, variants=2)
        4.0
    """
    return variants * (write - read) / (teacher - read) if teacher > read else None
