"""Triton kernels of CWD, launched by :mod:`mmkd.losses.fast.channelwise`.

A row is a channel of an image, L contiguous positions; ``rows`` = N·C rows are cut into spans of
S positions, one for each program. A program goes through its span B positions at a time. Weights
are (N, L); ``scale`` is 1 / τ.

A sum over the positions is accumulated in B partial sums, which are added after the loop: a
reduction inside of the loop would synchronize the warps.
"""
import triton
import triton.language as tl

NOWHERE = tl.constexpr(-1e30)
"""Logit of a position that does not count: its probability is 0, and all values remain finite."""


@triton.jit
def _loaded(student, teacher, weight, row, position, exists, scale, C, L,
            HAS_WEIGHT: tl.constexpr):
    """Logits over τ of both sides, the logarithm of the weights, and which positions count."""
    offset = row.to(tl.int64) * L + position
    inside = exists
    log_w = tl.where(exists, 0., 0.)
    if HAS_WEIGHT:
        w = tl.load(weight + (row // C).to(tl.int64) * L + position, mask=exists,
                    other=0.).to(tl.float32)
        inside = exists & (w > 0)
        log_w = tl.log(tl.where(w > 0, w, 1.))
    x = tl.load(student + offset, mask=inside, other=0.).to(tl.float32) * scale
    y = tl.load(teacher + offset, mask=inside, other=0.).to(tl.float32) * scale
    return x, y, log_w, inside


@triton.jit
def measure(student, teacher, weight, found, scale, C, L, spans, total,
            HAS_WEIGHT: tl.constexpr, S: tl.constexpr, B: tl.constexpr):
    """Log-sum-exp of the student's and of the teacher's logits, and the mean of their difference
    under the teacher's probabilities, over a span; ``total`` is the number of programs."""
    program = tl.program_id(0)
    row = program // spans
    begin = (program % spans) * S
    most_s = tl.full((B, ), NOWHERE, tl.float32)
    most_t = tl.full((B, ), NOWHERE, tl.float32)
    sum_s = tl.zeros((B, ), tl.float32)
    sum_t = tl.zeros((B, ), tl.float32)
    difference = tl.zeros((B, ), tl.float32)
    for first in range(0, S, B):
        position = begin + first + tl.arange(0, B)
        x, y, log_w, inside = _loaded(student, teacher, weight, row, position, position < L, scale,
                                      C, L, HAS_WEIGHT)
        z_s = tl.where(inside, x + log_w, NOWHERE)
        z_t = tl.where(inside, y + log_w, NOWHERE)
        new_s, new_t = tl.maximum(most_s, z_s), tl.maximum(most_t, z_t)
        sum_s = sum_s * tl.exp(most_s - new_s) + tl.where(inside, tl.exp(z_s - new_s), 0.)
        kept = tl.exp(most_t - new_t)
        e_t = tl.where(inside, tl.exp(z_t - new_t), 0.)
        sum_t = sum_t * kept + e_t
        difference = difference * kept + e_t * (y - x)
        most_s, most_t = new_s, new_t
    highest_s, highest_t = tl.max(most_s, 0), tl.max(most_t, 0)
    whole_s = tl.sum(sum_s * tl.exp(most_s - highest_s), 0)
    share = tl.exp(most_t - highest_t)
    whole_t = tl.sum(sum_t * share, 0)
    whole_d = tl.sum(difference * share, 0)
    is_any = whole_t > 0
    into = found + program
    tl.store(into, tl.where(is_any, highest_s + tl.log(tl.where(is_any, whole_s, 1.)), NOWHERE))
    tl.store(into + total, tl.where(is_any, highest_t + tl.log(tl.where(is_any, whole_t, 1.)),
                                    NOWHERE))
    tl.store(into + 2 * total, tl.where(is_any, whole_d / tl.where(is_any, whole_t, 1.), 0.))


@triton.jit
def differ(student, teacher, weight, norms, factor, found, scale, C, L, spans, rows,
           HAS_WEIGHT: tl.constexpr, S: tl.constexpr, B: tl.constexpr):
    """Gradient of CWD: the difference of the probabilities, times a factor."""
    program = tl.program_id(0)
    row = program // spans
    begin = (program % spans) * S
    norm_s, norm_t = tl.load(norms + row), tl.load(norms + rows + row)
    by = tl.load(factor).to(tl.float32)
    for first in range(0, S, B):
        position = begin + first + tl.arange(0, B)
        exists = position < L
        x, y, log_w, inside = _loaded(student, teacher, weight, row, position, exists, scale, C, L,
                                      HAS_WEIGHT)
        p_s = tl.exp(tl.where(inside, x + log_w, NOWHERE) - norm_s)
        p_t = tl.exp(tl.where(inside, y + log_w, NOWHERE) - norm_t)
        tl.store(found + row.to(tl.int64) * L + position,
                 tl.where(inside, (p_s - p_t) * by, 0.), mask=exists)
