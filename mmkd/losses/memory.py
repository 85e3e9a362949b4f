"""A memory of rows of past batches."""
from typing import Any, Optional, Sequence, Set, Tuple, Union

import torch
from torch import Tensor, nn

from ..core.processes import all_rows

HALF_MAX = torch.finfo(torch.float16).max


class Bank(nn.Module):
    """First-in, first-out memory of rows of past batches, equal in all processes.

    A loss creates it in ``__init__`` or ``setup`` like any module, pushes rows, and reads the rows
    to compare with. With several processes :meth:`push` exchanges rows, so the loss must declare
    ``communicates = True`` and every process must push in every step, even 0 rows. During the
    trial of a loss before training nothing is exchanged.

    Rows are stored in float32, or in float64 after ``.double()``; after ``.half()`` they remain in
    float32. Rows that are not finite are not stored. A bank passes no gradient. It returns copies,
    which later pushes do not change. Pushing makes the CPU wait for a GPU only with several
    processes, because their numbers of rows must be exchanged.

    Args:
        size (int): Number of rows that are stored; with ``classes``, per class.
        channels (int): C, length of a row.
        classes (int, optional): Number of classes, each with a queue of its own.
            Defaults to None, one queue for all.
        per_class (int, optional): Maximum number of rows per class, push and process, so that one
            image cannot fill a queue. The first ones are stored. Defaults to None, no limit.
        saved (str | bool): Format of the rows in a checkpoint: 'float32'; 'float16', half the
            space; False, not saved, so that a resumed run begins with an empty bank. With
            'float16', rows are rounded and clamped to ±65504 when they are pushed, so that a
            resumed run reads the same rows as one without interruption. Defaults to 'float32'.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If a number is less than 1, ``per_class`` is given without ``classes``, or
            ``saved`` is none of these values.

    Example:
        >>> bank = Bank(size=3, channels=2)
        >>> bank.push(torch.tensor([[1., 1.], [2., 2.]]))
        >>> bank.push(torch.tensor([[3., 3.], [4., 4.]]), sample_ids=[7, 8])
        >>> bank.read()[:, 0].tolist()
        [2.0, 3.0, 4.0]
        >>> rows, is_found = bank.read_by_ids([8, 9])
        >>> rows[:, 0].tolist(), is_found.tolist()
        ([4.0, 0.0], [True, False])
        >>> bank = Bank(size=3, channels=2, classes=5)
        >>> bank.push(torch.ones(4, 2), labels=torch.tensor([0, 4, 4, 255]))  # 255 is not a class
        >>> bank.read(label=4).shape
        torch.Size([2, 2])
    """

    memory: Tensor
    ids: Tensor
    serials: Tensor
    counts: Tensor

    def __init__(self, size: int, channels: int, *, classes: Optional[int] = None,
                 per_class: Optional[int] = None, saved: Union[str, bool] = 'float32') -> None:
        super().__init__()
        for name, value in dict(size=size, channels=channels, classes=classes,
                                per_class=per_class).items():
            _check_count(name, value, may_be_none=name in ('classes', 'per_class'))
        if per_class is not None and classes is None:
            raise ValueError(f'`per_class` is {per_class}, but the bank has no `classes`; set the '
                             'number of classes, or leave out `per_class`')
        if saved not in ('float32', 'float16', False) or (saved == 0 and saved is not False):
            raise ValueError(f"`saved` must be 'float32', 'float16' or False, but got {saved!r}; "
                             'write one of them')
        self.size, self.channels, self.classes = size, channels, classes
        self.per_class, self.saved = per_class, saved
        slots = size * (classes or 1)
        # One more slot takes the rows that are not stored. Shapes then do not depend on their
        # number, which would have to be read from the GPU. The slot is cleared after each push.
        for name, buffer in dict(
                memory=torch.zeros(slots + 1, channels),
                ids=torch.full((slots + 1, ), -1),
                serials=torch.full((slots + 1, ), -1),  # order of the rows; -1 is empty
                counts=torch.zeros(classes or 1, dtype=torch.int64)).items():  # stored so far
            self.register_buffer(name, buffer, persistent=bool(saved))
        self._full: Set[Optional[int]] = set()

    @torch.no_grad()
    def push(self, features: Tensor, labels: Optional[Tensor] = None,
             sample_ids: Union[Tensor, Sequence[int], None] = None) -> None:
        """Store rows. In a full bank they replace the oldest ones.

        With several processes, the rows are stored in order of rank.

        Args:
            features (Tensor): Float (M, C), on any device; M may be 0.
            labels (Tensor, optional): Int (M,), classes of the rows. Rows with a class outside of
                0…classes-1, such as ignored positions, are not stored. Required with ``classes``.
            sample_ids (Tensor | Sequence[int], optional): Int (M,), 0 or more, keys for
                :meth:`read_by_ids`. Defaults to None.

        Raises:
            ValueError: If a shape does not fit, or labels are missing, or given without
                ``classes``; in every process, if dtypes or shapes differ between processes.
        """
        if features.dim() != 2 or features.shape[1] != self.channels:
            raise ValueError(f'Bank keeps rows (M, {self.channels}), but got '
                             f'{tuple(features.shape)}; pass features of this shape, or build it '
                             'with other `channels`')
        if (labels is None) != (self.classes is None):
            raise ValueError('Bank was built ' + (
                'without `classes`, but got labels; leave them out, or set `classes`'
                if self.classes is None else
                f'for {self.classes} classes, but got no labels; pass one per row'))
        features = _moved(features.detach(), self.memory.device, self.memory.dtype)
        if self.saved == 'float16':
            is_finite = features.isfinite()
            half = features.clamp(-HALF_MAX, HALF_MAX).half().to(features)
            features = torch.where(is_finite, half, features)  # the others are not stored
        device, last = features.device, len(self.counts)
        labels = torch.zeros(len(features), dtype=torch.int64, device=device) if labels is None \
            else _per_row('labels', labels, features)
        ids = torch.full_like(labels, -1) if sample_ids is None \
            else _per_row('sample_ids', sample_ids, features)
        is_fine = (labels >= 0) & (labels < last) & features.isfinite().all(1)
        labels = torch.where(is_fine, labels, last)
        if self.per_class is not None:
            labels = torch.where(numbered(labels, last)[0] < self.per_class, labels, last)
        features, labels, ids = all_rows(features, labels, ids).tensors
        numbers, new = numbered(labels, last)
        is_kept = labels < last
        known = labels.clamp(max=last - 1)
        serials = self.counts.sum() - 1 + is_kept.cumsum(0)
        # Of more rows than slots, the last ones are stored.
        is_kept &= numbers >= new[known] - self.size
        slots = torch.where(is_kept, known * self.size + (self.counts[known] + numbers) % self.size,
                            last * self.size)
        for buffer, rows, empty in ((self.memory, features, 0), (self.ids, ids, -1),
                                    (self.serials, serials, -1)):
            buffer.index_copy_(0, slots, rows)
            buffer[-1].fill_(empty)
        self.counts += new

    @torch.no_grad()
    def read(self, label: Optional[int] = None) -> Tensor:
        """The stored rows, oldest first.

        The CPU waits for the GPU to read the number of rows, until the bank, or the queue of the
        class, has been found full; :meth:`table` never waits.

        Args:
            label (int, optional): The class. Defaults to None, rows of all classes.

        Returns:
            Tensor: (rows, C), without gradient.

        Raises:
            ValueError: If there is no such class.
        """
        if label is not None and not (
                self.classes is not None and isinstance(label, int) and 0 <= label < self.classes):
            raise ValueError(f'Bank has {self.classes or "no"} classes, but `label` is {label!r}; '
                             'pass a smaller whole number, or leave it out')
        first, last = (0, len(self.counts)) if label is None else (label, label + 1)
        count = slots = (last - first) * self.size
        if label not in self._full:
            count = int(self.counts[first:last].clamp(max=self.size).sum())
            if count == slots:
                self._full.add(label)
        span = slice(first * self.size, last * self.size)
        return self.memory[span][self.serials[span].argsort()[slots - count:]]

    @torch.no_grad()
    def read_by_ids(self, sample_ids: Union[Tensor, Sequence[int]]) -> Tuple[Tensor, Tensor]:
        """The newest row of each sample.

        With shuffled epochs, up to twice the number of rows of an epoch may be pushed between two
        visits of a sample: a bank of that size contains every sample.

        Args:
            sample_ids (Tensor | Sequence[int]): Int (M,).

        Returns:
            tuple[Tensor, Tensor]: Rows (M, C), without gradient, zeros for samples that are not in
            the bank; and bool (M,), True for samples that are.
        """
        ids = _moved(torch.as_tensor(sample_ids), self.ids.device, torch.int64)
        is_its = (ids[:, None] == self.ids) & (ids >= 0)[:, None]
        serials, slots = torch.where(is_its, self.serials, -1).max(1)
        is_found = serials >= 0
        return self.memory[slots].where(is_found[:, None], self.memory[-1]), is_found

    @torch.no_grad()
    def table(self, slots: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
        """Slots, filled or empty, not sorted by age.

        Args:
            slots (Tensor, optional): Int (K,), numbers of slots from 0 to size-1; with ``classes``,
                of the queue of each class. Defaults to None, all slots.

        Returns:
            tuple[Tensor, Tensor]: Rows (K, C), zeros in empty slots, and bool (K,), True for filled
            slots; with ``classes``, (classes, K, C) and (classes, K).
        """
        shape = (self.size, ) if self.classes is None else (self.classes, self.size)
        memory = self.memory[:-1].view(*shape, self.channels)
        serials = self.serials[:-1].view(shape)
        if slots is None:
            return memory.clone(), serials >= 0
        slots = _moved(slots, self.memory.device, torch.int64)
        return memory.index_select(-2, slots), serials.index_select(-1, slots) >= 0

    def extra_repr(self) -> str:
        return f'{self.size}, {self.channels}, classes={self.classes}, saved={self.saved!r}'

    def _apply(self, fn: Any, recurse: bool = True) -> 'Bank':
        before = self.memory
        super()._apply(fn, recurse)
        self._keep_precision(before)
        return self

    def _keep_precision(self, before: Tensor) -> None:
        if self.memory.element_size() < 4:  # half precision would round the stored rows
            self.memory = before.to(self.memory.device)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.saved:
            memory = self.memory.detach()
            destination[f'{prefix}memory'] = (
                memory.float() if self.saved == 'float32' else memory.half())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.memory.element_size() < 4:  # with `assign=True`
            self.memory = self.memory.float()
        self._full.clear()


def numbered(labels: Tensor, classes: int) -> Tuple[Tensor, Tensor]:
    """Number the rows of each class, without a wait for the GPU.

    Args:
        labels (Tensor): Int (M,), from 0 to ``classes``; the value ``classes`` means no class.
        classes (int): Number of classes.

    Returns:
        tuple[Tensor, Tensor]: Int (M,), number of preceding rows of the same class; int
        (classes,), number of rows of each class.

    Example:
        >>> [one.tolist() for one in numbered(torch.tensor([1, 0, 1, 2]), 2)]
        [[0, 0, 1, 0], [1, 2]]
    """
    counts = labels.new_zeros(classes + 1).scatter_add_(0, labels, torch.ones_like(labels))
    order = labels.argsort(stable=True)
    places = torch.arange(len(labels), device=labels.device)
    numbers = torch.empty_like(labels)
    numbers[order] = places - (counts.cumsum(0) - counts)[labels[order]]
    return numbers, counts[:-1]


def _per_row(name: str, values: Union[Tensor, Sequence[int]], features: Tensor) -> Tensor:
    found = torch.as_tensor(values)
    if found.shape != features.shape[:1] or (found.is_floating_point() and len(found)):
        raise ValueError(f'`{name}` must be whole numbers, one for each of the {len(features)} '
                         f'rows, but got {tuple(found.shape)} of {found.dtype}; pass one per row')
    return _moved(found, features.device, torch.int64)


def _moved(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    # A copy to a GPU may be asynchronous; a copy to the CPU could be read before it has ended.
    return values.to(device, dtype, non_blocking=device.type == 'cuda')


def _check_count(name: str, value: Any, may_be_none: bool) -> None:
    if value is None and may_be_none:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'`{name}` must be a whole number, but got {value!r}; write one, such as '
                        '256')
    if value < 1:
        raise ValueError(f'`{name}` must be 1 or more, but got {value}; write a number such as 256')
