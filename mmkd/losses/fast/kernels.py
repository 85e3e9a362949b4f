"""Triton kernels of the fused losses, launched by :mod:`mmkd.losses.fast.fused`.

A program handles P positions of image n, from ``block * P`` on, and loops over their C classes, B
at a time. Logits are (N, C, L), weights (N, L), contiguous; ``scale`` is 1 / τ.

A sum over the classes of a position is accumulated in B partial sums, which are added after the
loop: a reduction inside of the loop would synchronize the warps. A sum over positions is reduced
within a warp.
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
    """Log-sum-exp over the classes, per position."""
    most = tl.full((B, P), -float('inf'), tl.float32)
    total = tl.zeros((B, P), tl.float32)
    position = tl.arange(0, P)
    for first in range(0, C, B):
        c = first + tl.arange(0, B)
        here = (c < C)[:, None] & inside[None, :]
        x = tl.load(logits + start + c[:, None] * stride + position[None, :], mask=here,
                    other=-float('inf')).to(tl.float32) * scale
        x = tl.where(here, x, -float('inf'))
        new = tl.maximum(most, x)
        safe = tl.where(new == -float('inf'), 0., new)  # no finite logit so far
        total = total * tl.exp(most - safe) + tl.exp(x - safe)
        most = new
    highest = tl.max(most, 0)
    highest = tl.where(highest == -float('inf'), 0., highest)
    whole = tl.sum(total * tl.exp(most - highest[None, :]), 0)
    return tl.where(whole > 0, highest + tl.log(tl.where(whole > 0, whole, 1.)), 0.)


@triton.jit
def _weights(pointers, exists, HAS_WEIGHT: tl.constexpr):
    """Weights of positions: 1 if none are given, 0 beyond the last position."""
    if HAS_WEIGHT:
        return tl.load(pointers, mask=exists, other=0.).to(tl.float32)
    return tl.where(exists, 1., 0.)


@triton.jit
def gather(student, teacher, weight, row, norms, column, counts, scale, C, L, NL,
           USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
           P: tl.constexpr, B: tl.constexpr):
    """Moments of each row, and of each column over these positions, which the caller merges."""
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
    mean_s = tl.zeros((B, P), tl.float32)
    mean_t = tl.zeros((B, P), tl.float32)
    square_s = tl.zeros((B, P), tl.float32)
    square_t = tl.zeros((B, P), tl.float32)
    product = tl.zeros((B, P), tl.float32)
    for first in range(0, C, B):
        c = first + tl.arange(0, B)
        here = (c < C)[:, None] & inside[None, :]
        offset = start + c[:, None] * L + tl.arange(0, P)[None, :]
        _, s = _activated(student, offset, here, scale, norm_s, USE_SIGMOID)
        _, t = _activated(teacher, offset, here, scale, norm_t, USE_SIGMOID)
        s, t = tl.where(here, s, 0.), tl.where(here, t, 0.)
        # Rows: Welford's update of the means, which needs no reduction.
        share = 1. / (first // B + 1)
        ds, dt = tl.where(here, s - mean_s, 0.), tl.where(here, t - mean_t, 0.)
        mean_s += ds * share
        mean_t += dt * share
        square_s += ds * (s - mean_s)
        square_t += dt * (t - mean_t)
        product += ds * (t - mean_t)
        # Columns: moments of these positions, merged by the caller.
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
    # Number of classes in each of the B partial sums, and the merged moments.
    b = tl.arange(0, B)
    seen = tl.where(b < C, (C - b + B - 1) // B, 0).to(tl.float32)[:, None]
    whole_s, whole_t = tl.sum(seen * mean_s, 0) / C, tl.sum(seen * mean_t, 0) / C
    ds, dt = mean_s - whole_s[None, :], mean_t - whole_t[None, :]
    into = row + n * L + position
    tl.store(into, whole_s, mask=exists)
    tl.store(into + NL, whole_t, mask=exists)
    tl.store(into + 2 * NL, tl.sum(square_s + seen * ds * ds, 0), mask=exists)
    tl.store(into + 3 * NL, tl.sum(square_t + seen * dt * dt, 0), mask=exists)
    tl.store(into + 4 * NL, tl.sum(product + seen * ds * dt, 0), mask=exists)


@triton.jit
def spread(student, teacher, weight, norms, of_row, of_column, gradient, found, scale, C, L,
           NL, USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
           P: tl.constexpr, B: tl.constexpr):
    """Gradient of DIST, from a, b, c of the rows and of the columns."""
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
    products = tl.zeros((B, P), tl.float32)
    inner = tl.zeros((P, ), tl.float32)
    if not USE_SIGMOID:
        norm_s = tl.load(norms + at, mask=exists, other=0.)
        norm_t = tl.load(norms + NL + at, mask=exists, other=0.)
    for step in tl.static_range(1 if USE_SIGMOID else 2):
        if step == 1:
            inner = tl.sum(products, 0)
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
                products += tl.where(here, outer * s, 0.)
            else:
                outer = (outer - inner[None, :]) * s
            if USE_SIGMOID or step == 1:
                tl.store(found + offset, tl.where(here, outer * factor, 0.),
                         mask=(c < C)[:, None] & exists[None, :])


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), accurate also for small exp(x)."""
    e = tl.exp(-tl.abs(x))
    z = e / (2 + e)
    # log(1 + e) = 2 artanh(z), z at most 1/3: the next term of the series is below 2e-8 of the sum.
    q = z * z
    series = 1 / 9 + q * (1 / 11 + q / 13)
    series = 1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * series)))
    return tl.maximum(x, 0.) + 2 * z * series


@triton.jit
def diverge(student, teacher, weight, norms, sums, scale, C, L, NL,
            USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
            P: tl.constexpr, B: tl.constexpr):
    """KL divergence of KD, summed over these positions."""
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
    total = tl.zeros((B, P), tl.float32)
    for first in range(0, C, B):
        c = first + tl.arange(0, B)
        here = (c < C)[:, None] & inside[None, :]
        offset = start + c[:, None] * L + tl.arange(0, P)[None, :]
        x, _ = _activated(student, offset, here, scale, norm_s, USE_SIGMOID)
        y, t = _activated(teacher, offset, here, scale, norm_t, USE_SIGMOID)
        if USE_SIGMOID:  # see mmkd.losses.kd.of_bernoulli
            x, y = tl.where(y > 0, -x, x), -tl.abs(y)
            one = (y - x) / (1 + tl.exp(-y)) + _softplus(x) - _softplus(y)
        else:
            one = t * ((y - norm_t[None, :]) - (x - norm_s[None, :]))
        total += tl.where(here, one * w[None, :], 0.)
    tl.store(sums + n * tl.num_programs(0) + block, tl.sum(tl.sum(total, 0), 0))


@triton.jit
def differ(student, teacher, weight, norms, factor, found, scale, C, L, NL,
           USE_SIGMOID: tl.constexpr, HAS_WEIGHT: tl.constexpr,
           P: tl.constexpr, B: tl.constexpr):
    """Gradient of KD."""
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
