"""Triton kernels of one optimiser step on the clipped surrogate objective; imported only where they are made.

A network here is one of two, the policy's (0) and the value function's (1): one or two hidden layers and a head. Where
its parts lie in the vector of all parameters, and how wide they are, stands in a row of `layout`, `LAYOUT` numbers.
Sums are taken in a fixed order, so that a step repeats bit for bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

LAYOUT = tl.constexpr(10)  # first weight, bias, second, bias, head's, bias, width, second width, outputs, log_std
SCALARS = tl.constexpr(3)  # beside a gradient: policy loss, value loss, entropy
HALF_LOG_2PI = tl.constexpr(0.9189385332046727)


@triton.jit
def _activated(x, RELU: tl.constexpr):
    # tl.where keeps NaN, tl.maximum does not
    return tl.where(x < 0, 0.0, x) if RELU else 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)


@triton.jit
def _back(slope, y, RELU: tl.constexpr):
    """Take a slope back through the activation whose outputs are y."""
    return tl.where(y > 0, slope, 0.0) if RELU else slope * (1.0 - y * y)


@triton.jit
def _matrix(start, rows, columns, n_rows, n_columns, ACROSS: tl.constexpr):
    """Load the weights of an nn.Linear, `[out, in]`, 0 beyond their end; `ACROSS` as `[in, out]`."""
    if ACROSS:
        inside = (columns < n_columns)[:, None] & (rows < n_rows)[None, :]
        found = tl.load(start + rows[None, :] * n_columns + columns[:, None], mask=inside, other=0.0)
    else:
        inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
        found = tl.load(start + rows[:, None] * n_columns + columns[None, :], mask=inside, other=0.0)
    return found


@triton.jit(do_not_specialize=("which", "begin", "count", "tiles", "size"))
def gradient_kernel(
    vector, layout, obs, action, log_prob, value, advantage, returns, order, normal, low, high, mean, var,
    partial, log_ratio, which, begin, count, tiles, size, clip_range_vf, vf_coef, ent_coef, clip_obs,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, OUTPUTS: tl.constexpr,
    DEEP: tl.constexpr, RELU: tl.constexpr, GAUSSIAN: tl.constexpr, NORM_OBS: tl.constexpr,
    NORM_ADVANTAGE: tl.constexpr, CLIP_VF: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write one network's share of a minibatch's gradient and losses, of some tiles of rows, into a row of `partial`.

    Programs are `[rows of partial, 2]`. The minibatch is `order[begin : begin + count]`; row `which` of `normal` has
    the mean and deviation of its advantages. `WIDTH`, `FIRST`, `SECOND` and `OUTPUTS` are sizes of tiles, at least
    those of both networks; beyond a network's own sizes all is 0.
    """
    chunk, net = tl.program_id(0), tl.program_id(1)
    row_of = layout + net * LAYOUT
    w1, b1, w2, b2 = tl.load(row_of), tl.load(row_of + 1), tl.load(row_of + 2), tl.load(row_of + 3)
    w3, b3, n1, n2 = tl.load(row_of + 4), tl.load(row_of + 5), tl.load(row_of + 6), tl.load(row_of + 7)
    outputs, deviations = tl.load(row_of + 8), tl.load(row_of + 9)
    x_at, first, second, out = tl.arange(0, WIDTH), tl.arange(0, FIRST), tl.arange(0, SECOND), tl.arange(0, OUTPUTS)
    used = out < outputs
    W1 = _matrix(vector + w1, first, x_at, n1, INPUTS, True)
    W3, W3_back = (
        _matrix(vector + w3, out, second, outputs, n2, True),
        _matrix(vector + w3, out, second, outputs, n2, False),
    )
    g1, gb1 = tl.zeros([FIRST, WIDTH], tl.float32), tl.zeros([FIRST], tl.float32)
    g3, gb3 = tl.zeros([SECOND, OUTPUTS], tl.float32), tl.zeros([OUTPUTS], tl.float32)
    if DEEP:
        W2 = _matrix(vector + w2, second, first, n2, n1, True)
        W2_back = _matrix(vector + w2, second, first, n2, n1, False)
        g2, gb2 = tl.zeros([SECOND, FIRST], tl.float32), tl.zeros([SECOND], tl.float32)
    slopes_of_deviations = tl.zeros([OUTPUTS], tl.float32)
    share = 1.0 / count
    loss, entropy = 0.0, 0.0
    tile = 0
    # Biases and other small numbers are read again for each tile: to keep them takes more registers than there are.
    while tile < tiles:  # Triton 3.6 does not compile a `for` over such tiles for Hopper
        at = (chunk * tiles + tile) * TILE + tl.arange(0, TILE)
        real = at < count
        row = tl.load(order + begin + at, mask=real, other=0)
        x = tl.load(
            obs + row[:, None] * INPUTS + x_at[None, :], mask=real[:, None] & (x_at < INPUTS)[None, :], other=0.0
        )
        if NORM_OBS:
            center = tl.load(mean + x_at, mask=x_at < INPUTS, other=0.0)
            spread = tl.rsqrt(tl.load(var + x_at, mask=x_at < INPUTS, other=1.0) + 1e-8)
            x = (x - center[None, :]) * spread[None, :]
            x = tl.where(x > clip_obs, clip_obs, tl.where(x < -clip_obs, -clip_obs, x))
        B1 = tl.load(vector + b1 + first, mask=first < n1, other=0.0)
        h1 = _activated(tl.dot(x, W1, input_precision=PRECISION) + B1[None, :], RELU)
        h2 = h1
        if DEEP:
            B2 = tl.load(vector + b2 + second, mask=second < n2, other=0.0)
            h2 = _activated(tl.dot(h1, W2, input_precision=PRECISION) + B2[None, :], RELU)
        B3 = tl.load(vector + b3 + out, mask=used, other=0.0)
        y = tl.dot(h2, W3, input_precision=PRECISION) + B3[None, :]
        if net == 0:
            gained = tl.load(advantage + row, mask=real, other=0.0)
            if NORM_ADVANTAGE:
                gained = (gained - tl.load(normal + 2 * which)) / (tl.load(normal + 2 * which + 1) + 1e-8)
            if GAUSSIAN:
                log_std = tl.load(vector + deviations + out, mask=used, other=0.0)
                inverse = tl.exp(-log_std)
                taken = tl.load(
                    action + row[:, None] * outputs + out[None, :], mask=real[:, None] & used[None, :], other=0.0
                )
                noise = tl.where(used[None, :], (taken - y) * inverse[None, :], 0.0)
                each = -0.5 * noise * noise - log_std[None, :] - HALF_LOG_2PI
                chosen = tl.sum(tl.where(used[None, :], each, 0.0), 1)
            else:
                taken = tl.load(action + row, mask=real, other=0)
                y = tl.where(used[None, :], y, float("-inf"))
                top = tl.max(y, 1)
                powers = tl.exp(y - top[:, None])
                total = tl.sum(powers, 1)
                log_p = y - top[:, None] - tl.log(total)[:, None]
                probability = powers / total[:, None]
                hot = out[None, :] == taken[:, None]
                chosen = tl.sum(tl.where(hot, log_p, 0.0), 1)
            moved = chosen - tl.load(log_prob + row, mask=real, other=0.0)
            tl.store(log_ratio + begin + at, moved, mask=real)
            gain = tl.exp(moved) * gained
            limit = gained + tl.load(high) * tl.maximum(gained, 0.0) - tl.load(low) * tl.minimum(gained, 0.0)
            loss += tl.sum(tl.where(real, -tl.where(limit < gain, limit, gain), 0.0), 0)
            # at the limit itself each of the two counts half, as in PyTorch
            slope = -share * gain * tl.where(gain > limit, 0.0, tl.where(gain == limit, 0.5, 1.0))
            slope = tl.where(real, slope, 0.0)
            if GAUSSIAN:
                dy = slope[:, None] * noise * inverse[None, :]
                of_row = tl.where(real, ent_coef * share, 0.0)
                slopes_of_deviations += tl.sum(slope[:, None] * (noise * noise - 1.0) - of_row[:, None], 0)
            else:
                surprise = tl.where(used[None, :], probability * log_p, 0.0)
                uncertain = -tl.sum(surprise, 1)
                entropy += tl.sum(tl.where(real, uncertain, 0.0), 0)
                dy = slope[:, None] * (tl.where(hot, 1.0, 0.0) - probability)
                flatter = ent_coef * share * (surprise + probability * uncertain[:, None])
                dy += tl.where(real[:, None], flatter, 0.0)
        else:
            judged = tl.sum(tl.where(out[None, :] == 0, y, 0.0), 1)
            within = real
            if CLIP_VF:
                before = tl.load(value + row, mask=real, other=0.0)
                change = judged - before
                within = real & (tl.abs(change) <= clip_range_vf)
                change = tl.where(change > clip_range_vf, clip_range_vf, change)
                judged = before + tl.where(change < -clip_range_vf, -clip_range_vf, change)
            error = judged - tl.load(returns + row, mask=real, other=0.0)
            loss += tl.sum(tl.where(real, error * error, 0.0), 0)
            slope = tl.where(within, 2.0 * vf_coef * share * error, 0.0)
            dy = tl.where(out[None, :] == 0, slope[:, None], 0.0)
        gb3 += tl.sum(dy, 0)
        g3 += tl.dot(tl.trans(h2), dy, input_precision=PRECISION)
        dz = _back(tl.dot(dy, W3_back, input_precision=PRECISION), h2, RELU)
        if DEEP:
            gb2 += tl.sum(dz, 0)
            g2 += tl.dot(tl.trans(dz), h1, input_precision=PRECISION)
            dz = _back(tl.dot(dz, W2_back, input_precision=PRECISION), h1, RELU)
        gb1 += tl.sum(dz, 0)
        g1 += tl.dot(tl.trans(dz), x, input_precision=PRECISION)
        tile += 1
    to = partial + chunk * (size + SCALARS)
    inside = (first < n1)[:, None] & (x_at < INPUTS)[None, :]
    tl.store(to + w1 + first[:, None] * INPUTS + x_at[None, :], g1, mask=inside)
    tl.store(to + b1 + first, gb1, mask=first < n1)
    if DEEP:
        inside = (second < n2)[:, None] & (first < n1)[None, :]
        tl.store(to + w2 + second[:, None] * n1 + first[None, :], g2, mask=inside)
        tl.store(to + b2 + second, gb2, mask=second < n2)
    inside = (second < n2)[:, None] & used[None, :]
    tl.store(to + w3 + out[None, :] * n2 + second[:, None], g3, mask=inside)
    tl.store(to + b3 + out, gb3, mask=used)
    tl.store(to + size + net, loss * share)
    if net == 0:
        if GAUSSIAN:
            tl.store(to + deviations + out, slopes_of_deviations, mask=used)
            log_std = tl.load(vector + deviations + out, mask=used, other=0.0)
            own = tl.sum(tl.where(used, log_std + 0.5 + HALF_LOG_2PI, 0.0), 0)
            entropy = tl.where(chunk == 0, own, 0.0) * count
        tl.store(to + size + 2, entropy * share)


@triton.jit(do_not_specialize=("chunks", "size"))
def sum_kernel(partial, gradient, squares, chunks, size, BLOCK: tl.constexpr, GROUP: tl.constexpr):
    """Add the rows of `partial` up, `GROUP` at a time, and note each block's share of the gradient's square."""
    at, group = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, GROUP)
    stride = size + SCALARS
    total = tl.zeros([GROUP, BLOCK], tl.float32)
    done = 0
    while done < chunks:
        inside = (done + group < chunks)[:, None] & (at < stride)[None, :]
        total += tl.load(partial + (done + group)[:, None] * stride + at[None, :], mask=inside, other=0.0)
        done += GROUP
    found = tl.sum(total, 0)
    tl.store(gradient + at, found, mask=at < stride)
    tl.store(squares + tl.program_id(0), tl.sum(tl.where(at < size, found * found, 0.0), 0))


@triton.jit(do_not_specialize=("which", "minibatches", "size", "blocks"))
def step_kernel(
    gradient, squares, vector, first, second, rates, scalars, which, minibatches, size, blocks,
    max_norm, vf_coef, ent_coef, CLIP: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Clip the gradient by its norm and take a step of Adam or AdamW; write the minibatch's column of `scalars`."""
    at, every = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, BLOCKS)
    norm = tl.sqrt(tl.sum(tl.load(squares + every, mask=every < blocks, other=0.0), 0))
    mine = at < size
    slope = tl.load(gradient + at, mask=mine, other=0.0)
    if CLIP:
        factor = max_norm / (norm + 1e-6)
        slope = slope * tl.where(factor > 1.0, 1.0, factor)  # NaN stays
    rate, eps, decay = tl.load(rates + which * 3), tl.load(rates + which * 3 + 1), tl.load(rates + which * 3 + 2)
    square = tl.load(second + at, mask=mine, other=0.0) * 0.999 + 0.001 * slope * slope
    mean = tl.load(first + at, mask=mine, other=0.0)
    mean += 0.1 * (slope - mean)
    moved = tl.load(vector + at, mask=mine, other=0.0) * decay
    tl.store(vector + at, moved - rate * (mean / (tl.sqrt(square) + eps)), mask=mine)
    tl.store(first + at, mean, mask=mine)
    tl.store(second + at, square, mask=mine)
    if tl.program_id(0) == 0:
        policy, value = tl.load(gradient + size), tl.load(gradient + size + 1)
        entropy = tl.load(gradient + size + 2)
        to = scalars + which
        tl.store(to, policy)
        tl.store(to + minibatches, value)
        tl.store(to + 2 * minibatches, entropy)
        tl.store(to + 3 * minibatches, policy + vf_coef * value - ent_coef * entropy + norm)
        tl.store(to + 4 * minibatches, norm)
