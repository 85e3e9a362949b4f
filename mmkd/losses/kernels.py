"""What does each program of a fused loss do on a GPU? Started by :mod:`mmkd.losses.fused`.

A program looks at P positions of image n, from ``block * P`` on, and goes through their C classes,
B at a time. Logits are (N, C, L), weights (N, L), contiguous; ``scale`` is 1 / τ.
"""
import triton
import triton.language as tl


@triton.jit
def _activated(logits, offset, inside, scale, norm, USE_SIGMOID: tl.constexpr):
    """Logits over τ, and probabilities."""
    x = tl.load(logits + offset, mask=inside, other=0.).to(tl.float32) * scale
    if USE_SIGMOID:
        return x, 1 / (1 + tl.exp(-x))
    return x, tl.exp(x - norm[None, :])


@triton.jit
def _norm_of(logits, start, stride, inside, scale, C, P: tl.constexpr, B: tl.constexpr):
    """Logarithm of the sum over the classes of the exponentials, for each position."""
    most = tl.full((P, ), -float('inf'), tl.float32)
    total = tl.zeros((P, ), tl.float32)
    position = tl.arange(0, P)
    for first in range(0, C, B):
        c = first + tl.arange(0, B)
        here = (c < C)[:, None] & inside[None, :]
        x = tl.load(logits + start + c[:, None] * stride + position[None, :], mask=here,
                    other=-float('inf')).to(tl.float32) * scale
        x = tl.where(here, x, -float('inf'))
        new = tl.maximum(most, tl.max(x, 0))
        safe = tl.where(new == -float('inf'), 0., new)  # positions that do not count
        total = total * tl.exp(most - safe) + tl.sum(tl.exp(x - safe[None, :]), 0)
        most = new
    return tl.where(total > 0, most + tl.log(tl.where(total > 0, total, 1.)), 0.)


@triton.jit
def _weights(pointers, exists, HAS_WEIGHT: tl.constexpr):
    """Of positions: 1 where none are given, 0 beyond the last one."""
    if HAS_WEIGHT:
        return tl.load(pointers, mask=exists, other=0.).to(tl.float32)
    return tl.where(exists, 1., 0.)


@triton.jit
def gather(student, teacher, weight, row, norms, column, counts, scale, C, L, NL,
           USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
           P: tl.constexpr, B: tl.constexpr):
    """Moments of each row, and of each column over these positions, for the caller to merge."""
    n, block = tl.program_id(1), tl.program_id(0)
    program = n * tl.num_programs(0) + block
    position = block * P + tl.arange(0, P)
    exists = position < L
    w = _weights(weight + n * L + position, exists, HAS_WEIGHT)
    inside = w > 0
    count = tl.sum(w, 0)
    tl.store(counts + program, count)
    divisor = tl.where(count > 0, count, 1.)
    start = n.to(tl.int64) * C * L + block * P
    norm_s = tl.zeros((P, ), tl.float32)
    norm_t = tl.zeros((P, ), tl.float32)
    if not USE_SIGMOID:
        norm_s = _norm_of(student, start, L, inside, scale, C, P, B)
        norm_t = _norm_of(teacher, start, L, inside, scale, C, P, B)
        tl.store(norms + n * L + position, norm_s, mask=exists)
        tl.store(norms + NL + n * L + position, norm_t, mask=exists)
    mean_s = tl.zeros((P, ), tl.float32)
    mean_t = tl.zeros((P, ), tl.float32)
    square_s = tl.zeros((P, ), tl.float32)
    square_t = tl.zeros((P, ), tl.float32)
    product = tl.zeros((P, ), tl.float32)
    for first in range(0, C, B):
        c = first + tl.arange(0, B)
        here = (c < C)[:, None] & inside[None, :]
        offset = start + c[:, None] * L + tl.arange(0, P)[None, :]
        _, s = _activated(student, offset, here, scale, norm_s, USE_SIGMOID)
        _, t = _activated(teacher, offset, here, scale, norm_t, USE_SIGMOID)
        s, t = tl.where(here, s, 0.), tl.where(here, t, 0.)
        # Of the rows: this chunk's moments, merged with those before it.
        new = tl.minimum(B, C - first).to(tl.float32)
        ms, mt = tl.sum(s, 0) / new, tl.sum(t, 0) / new
        ds = tl.where(here, s - ms[None, :], 0.)
        dt = tl.where(here, t - mt[None, :], 0.)
        share = new / (first + new)
        es, et = ms - mean_s, mt - mean_t
        square_s += tl.sum(ds * ds, 0) + es * es * first * share
        square_t += tl.sum(dt * dt, 0) + et * et * first * share
        product += tl.sum(ds * dt, 0) + es * et * first * share
        mean_s += es * share
        mean_t += et * share
        # Of the columns: those of these positions, merged by the caller.
        cs = tl.sum(s * w[None, :], 1) / divisor
        ct = tl.sum(t * w[None, :], 1) / divisor
        ds = tl.where(here, s - cs[:, None], 0.)
        dt = tl.where(here, t - ct[:, None], 0.)
        into = column + program * 5 * C + c
        tl.store(into, cs, mask=c < C)
        tl.store(into + C, ct, mask=c < C)
        tl.store(into + 2 * C, tl.sum(ds * ds * w[None, :], 1), mask=c < C)
        tl.store(into + 3 * C, tl.sum(dt * dt * w[None, :], 1), mask=c < C)
        tl.store(into + 4 * C, tl.sum(ds * dt * w[None, :], 1), mask=c < C)
    into = row + n * L + position
    tl.store(into, mean_s, mask=exists)
    tl.store(into + NL, mean_t, mask=exists)
    tl.store(into + 2 * NL, square_s, mask=exists)
    tl.store(into + 3 * NL, square_t, mask=exists)
    tl.store(into + 4 * NL, product, mask=exists)


@triton.jit
def spread(student, teacher, weight, norms, of_row, of_column, gradient, found, scale, C, L,
           NL, USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
           P: tl.constexpr, B: tl.constexpr):
    """DIST's gradient, of a, b, c of the rows and of the columns."""
    n, block = tl.program_id(1), tl.program_id(0)
    position = block * P + tl.arange(0, P)
    exists = position < L
    w = _weights(weight + n * L + position, exists, HAS_WEIGHT)
    inside = w > 0
    factor = tl.load(gradient).to(tl.float32)
    start = n.to(tl.int64) * C * L + block * P
    at = n * L + position
    a_row = tl.load(of_row + at, mask=exists, other=0.)
    b_row = tl.load(of_row + NL + at, mask=exists, other=0.)
    c_row = tl.load(of_row + 2 * NL + at, mask=exists, other=0.)
    norm_s = tl.zeros((P, ), tl.float32)
    norm_t = tl.zeros((P, ), tl.float32)
    inner = tl.zeros((P, ), tl.float32)
    if not USE_SIGMOID:
        norm_s = tl.load(norms + at, mask=exists, other=0.)
        norm_t = tl.load(norms + NL + at, mask=exists, other=0.)
    for step in tl.static_range(1 if USE_SIGMOID else 2):
        for first in range(0, C, B):
            c = first + tl.arange(0, B)
            here = (c < C)[:, None] & inside[None, :]
            offset = start + c[:, None] * L + tl.arange(0, P)[None, :]
            _, s = _activated(student, offset, here, scale, norm_s, USE_SIGMOID)
            _, t = _activated(teacher, offset, here, scale, norm_t, USE_SIGMOID)
            a_column = tl.load(of_column + c, mask=c < C, other=0.)
            b_column = tl.load(of_column + C + c, mask=c < C, other=0.)
            c_column = tl.load(of_column + 2 * C + c, mask=c < C, other=0.)
            outer = (a_row[None, :] + a_column[:, None] * w[None, :]) * t
            outer += (b_row[None, :] + b_column[:, None] * w[None, :]) * s
            outer += c_row[None, :] + c_column[:, None] * w[None, :]
            if USE_SIGMOID:
                outer = outer * s * (1 - s)
            elif step == 0:
                inner += tl.sum(tl.where(here, outer * s, 0.), 0)
            else:
                outer = (outer - inner[None, :]) * s
            if USE_SIGMOID or step == 1:
                tl.store(found + offset, tl.where(here, outer * factor, 0.),
                         mask=(c < C)[:, None] & exists[None, :])


@triton.jit
def _log_sigmoid(x):
    return tl.minimum(x, 0.) - tl.log(1 + tl.exp(-tl.abs(x)))


@triton.jit
def diverge(student, teacher, weight, norms, sums, scale, C, L, NL,
            USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
            P: tl.constexpr, B: tl.constexpr):
    """KD's divergence, summed over these positions."""
    n, block = tl.program_id(1), tl.program_id(0)
    position = block * P + tl.arange(0, P)
    exists = position < L
    w = _weights(weight + n * L + position, exists, HAS_WEIGHT)
    inside = w > 0
    start = n.to(tl.int64) * C * L + block * P
    norm_s = tl.zeros((P, ), tl.float32)
    norm_t = tl.zeros((P, ), tl.float32)
    if not USE_SIGMOID:
        norm_s = _norm_of(student, start, L, inside, scale, C, P, B)
        norm_t = _norm_of(teacher, start, L, inside, scale, C, P, B)
        tl.store(norms + n * L + position, norm_s, mask=exists)
        tl.store(norms + NL + n * L + position, norm_t, mask=exists)
    total = tl.zeros((P, ), tl.float32)
    for first in range(0, C, B):
        c = first + tl.arange(0, B)
        here = (c < C)[:, None] & inside[None, :]
        offset = start + c[:, None] * L + tl.arange(0, P)[None, :]
        x, _ = _activated(student, offset, here, scale, norm_s, USE_SIGMOID)
        y, t = _activated(teacher, offset, here, scale, norm_t, USE_SIGMOID)
        if USE_SIGMOID:
            one = t * (_log_sigmoid(y) - _log_sigmoid(x))
            one += (1 - t) * (_log_sigmoid(-y) - _log_sigmoid(-x))
        else:
            one = t * ((y - norm_t[None, :]) - (x - norm_s[None, :]))
        total += tl.sum(tl.where(here, one, 0.), 0)
    tl.store(sums + n * tl.num_programs(0) + block, tl.sum(tl.where(inside, total * w, 0.), 0))


@triton.jit
def differ(student, teacher, weight, norms, factor, found, scale, C, L, NL,
           USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
           P: tl.constexpr, B: tl.constexpr):
    """KD's gradient."""
    n, block = tl.program_id(1), tl.program_id(0)
    position = block * P + tl.arange(0, P)
    exists = position < L
    w = _weights(weight + n * L + position, exists, HAS_WEIGHT)
    inside = w > 0
    w = w * tl.load(factor).to(tl.float32)
    start = n.to(tl.int64) * C * L + block * P
    norm_s = tl.zeros((P, ), tl.float32)
    norm_t = tl.zeros((P, ), tl.float32)
    if not USE_SIGMOID:
        norm_s = tl.load(norms + n * L + position, mask=exists, other=0.)
        norm_t = tl.load(norms + NL + n * L + position, mask=exists, other=0.)
    for first in range(0, C, B):
        c = first + tl.arange(0, B)
        here = (c < C)[:, None] & inside[None, :]
        offset = start + c[:, None] * L + tl.arange(0, P)[None, :]
        _, s = _activated(student, offset, here, scale, norm_s, USE_SIGMOID)
        _, t = _activated(teacher, offset, here, scale, norm_t, USE_SIGMOID)
        tl.store(found + offset, tl.where(here, (s - t) * w[None, :], 0.),
                 mask=(c < C)[:, None] & exists[None, :])
