"""DIST in closed form: only the logits and a few vectors are saved for backward.

With autograd, the formula of DIST saves half a dozen tensors of the size of the logits. But value
and gradient follow from five moments of every row and every column: two means, two sums of squares,
one sum of products. So there are two passes over the logits, in chunks that fit the cache: one for
the moments, one for the gradient.
"""
from functools import cache
from typing import Any, Callable, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from . import fused
from .eager import eager
from .pieces import TINY, pieces, probabilities

EPS = 1e-8
"""Added to the product of the norms, as in the authors' code."""

Count = Union[float, Tensor]
"""Number of positions, or the sum of their weights as a float64 scalar on the device: reading it
would make the CPU wait."""


class Moments(NamedTuple):
    """Moments of two variables, for many columns at once."""
    mean_s: Tensor
    mean_t: Tensor
    square_s: Tensor
    """Sum of squared deviations from the mean."""
    square_t: Tensor
    product: Tensor

    def correlation(self) -> Tuple[Tensor, Tensor, Tensor]:
        r"""Pearson's :math:`\rho`, and its derivative.

        Returns:
            tuple[Tensor, Tensor, Tensor]: :math:`\rho`, a and b, with
            :math:`\partial \rho / \partial s = a (t - \bar t) + b (s - \bar s)`. For constant s the
            derivative of the norm is 0, as in torch.
        """
        norm_s, norm_t = self.square_s.sqrt(), self.square_t.sqrt()
        a = 1 / (norm_s * norm_t + EPS)
        # If both are constant, the deviations are 0, but a factor 1 / EPS would add rounding noise.
        a = torch.where((norm_s > 0) | (norm_t > 0), a, 0.)
        correlation = self.product * a
        b = torch.where(norm_s > 0, -correlation * norm_t * a / norm_s, 0.)
        return correlation, a, b


def dist(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
         use_sigmoid: bool, beta: float, gamma: float, sync: bool = False) -> Tensor:
    """The loss of :class:`mmkd.DISTLoss`, without its factor τ².

    Args:
        student (Tensor): Float32 or float64 (N, C, L), logits at L positions of N images.
        teacher (Tensor): The same, without gradient.
        weight (Tensor, optional): (N, L), 0 or more. None for equal weights.
        tau (float): Temperature.
        use_sigmoid (bool): Sigmoid, or softmax over the classes.
        beta (float): Weight of the inter-class relation.
        gamma (float): Weight of the intra-class relation.
        sync (bool): Whether the relations are computed over the positions of all processes.
            Defaults to False.

    Returns:
        Tensor: A scalar; 0 without any position of positive weight. Its gradient is computed from
        the logits in backward, not saved.
    """
    result: Tensor = eager(_Dist.apply)(student, teacher, weight, tau, use_sigmoid, beta, gamma,
                                        sync)
    return result


class _Dist(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Optional[Tensor],
                tau: float, use_sigmoid: bool, beta: float, gamma: float,
                sync: bool) -> Tensor:
        ctx.form = form = form_for(student, teacher, weight, use_sigmoid)
        row, column, seen, norms = form.gather(student, teacher, weight, tau, use_sigmoid)
        of_rows = Moments(*row)
        inter, a_row, b_row = of_rows.correlation()
        of_all = inter.sum() if weight is None else (weight * inter).sum()
        ctx.processes, seen, column, of_all = over_processes(seen, column, of_all, sync)
        of_columns = Moments(*column.to(student.dtype))
        intra, a_column, b_column = of_columns.correlation()
        divisor = at_least_tiny(seen)
        share = (torch.ones_like(inter) if weight is None else weight) / divisor
        ctx.save_for_backward(student, teacher, weight, norms, share, *of_rows[:2], a_row, b_row,
                              *of_columns[:2], a_column, b_column)
        ctx.settings = tau, use_sigmoid, beta, gamma
        if isinstance(divisor, Tensor):
            divisor = divisor.to(student.dtype)
        value = beta * (1 - of_all / divisor) + gamma * (1 - intra.mean())
        if isinstance(seen, Tensor):
            return torch.where(seen == 0, 0., value)
        return value if seen else torch.zeros_like(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (student, teacher, weight, norms, share, mean_s, mean_t, a_row, b_row,
         column_s, column_t, a_column, b_column) = ctx.saved_tensors
        tau, use_sigmoid, beta, gamma = ctx.settings
        # A distributed wrapper averages gradients over processes; with this factor they add up.
        gradient = gradient / tau * ctx.processes
        # d loss / d s = a t + b s + c, each the sum of a value of the row and one of the column.
        a_row, b_row = -beta * share * a_row, -beta * share * b_row
        c_row = -(a_row * mean_t + b_row * mean_s)
        scale = -gamma / student.shape[1]
        a_column, b_column = scale * a_column, scale * b_column
        c_column = -(a_column * column_t + b_column * column_s)
        found = ctx.form.spread(student, teacher, weight, tau, use_sigmoid, norms,
                                torch.stack([a_row, b_row, c_row]),
                                torch.stack([a_column, b_column, c_column]), gradient)
        return found, *[None] * 7


class Form(NamedTuple):
    """An implementation of value and gradient."""
    gather: Callable[..., Tuple[Tensor, Tensor, Count, Optional[Tensor]]]
    """(student, teacher, weight, τ, use_sigmoid) -> (moments of rows (5, N, L), moments of columns,
    float64 (5, C), number of positions, tensor saved for ``spread`` or None)."""
    spread: Callable[..., Tensor]
    """(student, teacher, weight, τ, use_sigmoid, saved tensor, a, b, c of rows (3, N, L), a, b, c
    of columns (3, C), factor) -> gradient."""


def gather(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
           use_sigmoid: bool) -> Tuple[Tensor, Tensor, Count, None]:
    """The moments, computed in chunks."""
    count, classes, length = student.shape
    row = student.new_empty(5, count, length)
    # Sums over all positions in float64, at almost no cost.
    column = student.new_zeros(5, classes, dtype=torch.float64)
    seen: Count = 0.
    for n, piece in pieces(student):
        s, t, w = probabilities(student, teacher, weight, tau, use_sigmoid, n, piece)
        for store, one in zip(row[:2, n, piece], (s, t)):
            torch.mean(one, 0, out=store)
        ds, dt = s - row[0, n, piece], t - row[1, n, piece]
        row[2, n, piece] = ds.square().sum(0)
        row[3, n, piece] = dt.square().sum(0)
        row[4, n, piece] = ds.mul_(dt).sum(0)
        total = float(s.shape[1]) if w is None else w.sum().double()
        divisor = at_least_tiny(total)
        mean_s, mean_t = ((one if w is None else one * w).sum(1) / divisor for one in (s, t))
        s.sub_(mean_s.unsqueeze(1))
        t.sub_(mean_t.unsqueeze(1))
        ws, wt = (s, t) if w is None else (s * w, t * w)
        inside = torch.stack([mean_s, mean_t, torch.mul(ws, s, out=ds).sum(1),
                              torch.mul(wt, t, out=dt).sum(1), ws.mul(t).sum(1)])
        seen = merge(column, seen, inside.double(), total)
    return row, column, seen, None


def spread(student: Tensor, teacher: Tensor, weight: Optional[Tensor], tau: float,
           use_sigmoid: bool, norms: None, of_row: Tensor, of_column: Tensor,
           gradient: Tensor) -> Tensor:
    """The gradient, computed in chunks."""
    found = torch.empty_like(student)
    for n, piece in pieces(student):
        s, t, w = probabilities(student, teacher, weight, tau, use_sigmoid, n, piece)
        into = found[n, :, piece]
        a, b, c = (torch.add(row[n, piece], column.unsqueeze(1) if w is None else
                             column.unsqueeze(1) * w) for row, column in zip(of_row, of_column))
        outer = a.mul_(t).addcmul_(b, s).add_(c)
        if use_sigmoid:
            outer.mul_(s).mul_(s.neg_().add_(1))
        else:
            outer.sub_((outer * s).sum(0)).mul_(s)
        torch.mul(outer, gradient, out=into)
    return found


PIECEWISE = Form(gather, spread)
FUSED = Form(fused.gather, fused.spread)


def form_for(student: Tensor, teacher: Tensor, weight: Optional[Tensor],
             use_sigmoid: bool) -> Form:
    """The kernels of :mod:`mmkd.losses.fast.fused` if they work, otherwise the chunks."""
    if not fused.fits(student, teacher, weight):
        return PIECEWISE
    return FUSED if is_believed(student.device, use_sigmoid, weight is not None) else PIECEWISE


@cache
def is_believed(device: torch.device, use_sigmoid: bool, has_weight: bool) -> bool:
    """Whether the kernels agree with the computation in chunks. It is tested once, on random
    numbers."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    student, teacher, weight, of_row, of_column = (
        drawn(2, 21, 300), drawn(2, 21, 300), drawn(2, 300).relu(), drawn(3, 2, 300), drawn(3, 21))
    if has_weight:  # rows of weight 0 have no gradient
        of_row *= weight > 0
    asked = student, teacher, weight if has_weight else None, 2., use_sigmoid

    def said(form: Form) -> List[Tensor]:
        row, column, seen, norms = form.gather(*asked)
        if has_weight:
            row *= weight > 0
        return [row, column, torch.as_tensor(seen, dtype=torch.float64), form.spread(
            *asked, norms, of_row, of_column, torch.tensor(3., device=device))]

    return fused.agree(f'DIST on {device}', lambda: said(PIECEWISE), lambda: said(FUSED))


def at_least_tiny(count: Count) -> Count:
    """The count, at least ``TINY``, so that it can be a divisor."""
    return count.clamp(min=TINY) if isinstance(count, Tensor) else max(count, TINY)


def over_processes(seen: Count, column: Tensor, of_all: Tensor,
                   sync: bool) -> Tuple[int, Count, Tensor, Tensor]:
    """Merge the moments of all processes.

    Each process sends 5 C + 2 numbers, and no logits.

    Args:
        seen (float | Tensor): Number, or sum of weights, of the positions of this process.
        column (Tensor): Float64 (5, C), moments of these positions by class.
        of_all (Tensor): A scalar, the sum of their inter-class correlations.
        sync (bool): Whether processes are merged at all.

    Returns:
        tuple[int, float | Tensor, Tensor, Tensor]: The number of processes, and count, moments and
        sum of all of them.
    """
    if not (sync and distributed.is_available() and distributed.is_initialized()):
        return 1, seen, column, of_all
    seen = seen if isinstance(seen, Tensor) else column.new_full((), seen)
    own = torch.cat([column.flatten(), seen.double().reshape(1), of_all.double().reshape(1)])
    found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, own)
    seen, column, sums = 0., torch.zeros_like(column), own.new_zeros(())
    for one in found:  # in one order, so that results are bitwise equal in all processes
        sums = sums + one[-1]
        seen = merge(column, seen, one[:-2].reshape(column.shape), one[-2])
    return len(found), seen, column, sums.to(of_all.dtype)


def merge(total: Tensor, seen: Count, new: Tensor, count: Count) -> Count:
    """Add the moments of more samples, without the cancellation of sums of squares.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.

    Args:
        total (Tensor): (5, C), in the order of :class:`Moments`; changed in place.
        seen (float | Tensor): Number of samples in ``total``.
        new (Tensor): (5, C), moments of the new samples.
        count (float | Tensor): Number of the new samples; 0 changes nothing.

    Returns:
        float | Tensor: The new number of samples in ``total``.
    """
    ds, dt = new[0] - total[0], new[1] - total[1]
    both = seen + count
    divisor = at_least_tiny(both)
    total[2:] += new[2:] + seen * count / divisor * torch.stack([ds * ds, dt * dt, ds * dt])
    total[0] += ds * (count / divisor)
    total[1] += dt * (count / divisor)
    return both
