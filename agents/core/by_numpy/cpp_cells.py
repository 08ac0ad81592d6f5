"""Memories of one cell in C++: a whole sequence and its gradient, step by step, however episodes start within it.

What the inputs give to the gates is one product of matrices before all steps, and what weights are to blame for one
after them; only the products with the hidden state are made in each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agents.core.by_numpy.cpp_loops import Each, Text, untold, whole
from agents.core.by_numpy.cpp_sums import MOST_WEIGHTS, padded, product, reduce
from agents.core.tracing import Differentiable

PANEL = 64  # columns: what of a matrix is read together lies together, as caches like it
GATES = {"lstm": 4, "gru": 3}  # by the names that functions are `known_as`


class Saved(NamedTuple):
    """What the gradient takes of a sequence of T steps of N rows.

    Attributes:
        gates: `[T, N, G * H]`, after their sigmoid or tanh.
        hidden: `[T + 1, N, H]`, before each step.
        more: `[T + 1, N, H]`, of LSTM the cell state before each step; of GRU what the hidden state gives to the new
            one, before the gate r.
        squashed: `[T, N, H]`, of LSTM the tanh of the cell state after each step.
    """

    gates: np.ndarray
    hidden: np.ndarray
    more: np.ndarray
    squashed: np.ndarray


def write_cell(text: Text, function: Any, given: Sequence[np.ndarray], made: Sequence[Any]) -> None:
    """Write what a cell makes of a sequence, or its gradient.

    Args:
        function: the cell's `sequence`, or `forward` or `backward` of one that has a gradient.
        given, made: what it takes and what it returns, see `agents.networks.cells.Cell.sequence`.

    Raises:
        Untold: it is another function, or of arrays that there is no text for; nothing is written then.
    """
    owner = getattr(function, "__self__", None)
    learnt = owner if isinstance(owner, Differentiable) else None
    kind = getattr(learnt.function if learnt else function, "known_as", "")
    if kind not in GATES:
        untold()
    if learnt is None or function.__name__ == "forward":
        saved = _write_forward(text, kind, given, made)
        if learnt is not None:
            learnt.compiled = saved
    elif learnt.compiled is None:  # PyTorch went forward
        untold()
    else:
        count = sum(learnt.used)
        gradients = iter(given[:count])
        of_made = [next(gradients) if used else None for used in learnt.used]
        found = iter(made)
        wanted = [next(found) if asked else None for asked in learnt.wanted]
        _write_backward(text, kind, learnt.compiled, of_made, given[count:], wanted)


def _write_forward(text: Text, kind: str, given: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> Saved:
    x, carry, start, of_inputs, of_hidden, inputs_bias, hidden_bias = given
    whole(carry, of_inputs, of_hidden, inputs_bias, hidden_bias)
    width, size = of_hidden.shape
    steps, envs, inputs = x.shape
    if start.dtype != bool or not start.flags.c_contiguous or x.dtype != np.float32 or not x.size:
        untold()
    if width * max(inputs, padded(size)) > MOST_WEIGHTS:
        untold()
    rows = steps * envs
    gates = text.room(rows * width).reshape(steps, envs, width)
    hidden, more = (text.room((steps + 1) * envs * size).reshape(steps + 1, envs, size) for _ in range(2))
    saved = Saved(gates, hidden, more, text.room(rows * size).reshape(steps, envs, size))
    product(text, _in_one_piece(text, x).reshape(rows, inputs), of_inputs.T, gates.reshape(rows, width))
    weights = _panels(text, of_hidden.T)
    found = [_in_its_order(text, one) for one in made]
    arrays = (*found, *saved, text.room(envs * width), carry, start, weights, inputs_bias, hidden_bias)
    pointers = ", ".join(text.pointer(one) for one in arrays)
    text.line(f"{kind}({pointers}, {steps}, {envs}, {size});")
    for to, one in zip(made, found, strict=True):
        _copy(text, to, one)
    return saved


def _write_backward(
    text: Text,
    kind: str,
    saved: Saved,
    of_made: Sequence[np.ndarray | None],
    given: Sequence[np.ndarray],
    wanted: Sequence[Any],
) -> None:
    """Write gradients.

    Args:
        of_made: those of the outputs and of the last carry; None where there is none.
        given: what went in.
        wanted: where the gradient of each argument goes; None where nobody asks.
    """
    x, _, start, of_inputs, of_hidden, *_ = given
    to_x, to_carry, _, to_of_inputs, to_of_hidden, to_inputs_bias, to_hidden_bias = wanted
    steps, envs, inputs = x.shape
    width, size = of_hidden.shape
    rows = steps * envs
    flowing = [text.room(envs * size) for _ in range(2)]
    inner = saved.gates if kind == "lstm" else text.room(rows * width)  # the hidden state's share of the gates
    weights = _panels(text, of_hidden)
    gradients = [None if one is None else _in_one_piece(text, one) for one in of_made]
    arrays = (saved.gates, inner, *flowing, *gradients, saved.hidden, saved.more, saved.squashed, start, weights)
    pointers = ", ".join("(float*)nullptr" if one is None else text.pointer(one) for one in arrays)
    text.line(f"{kind}_backward({pointers}, {steps}, {envs}, {size});")
    if to_carry is not None:
        parts = [one.reshape(envs, size) for one in flowing[: to_carry.shape[1] // size]]
        for n, part in enumerate(parts):
            _copy(text, to_carry[:, n * size : (n + 1) * size], part)
    of_gates, of_inner = saved.gates.reshape(rows, width), inner.reshape(rows, width)
    if to_x is not None:
        found = _in_its_order(text, to_x)
        product(text, of_gates, of_inputs, found.reshape(rows, inputs))
        _copy(text, to_x, found)
    if to_of_inputs is not None:
        product(text, of_gates.T, _in_one_piece(text, x).reshape(rows, inputs), to_of_inputs)
    if to_of_hidden is not None:
        product(text, of_inner.T, saved.hidden[:steps].reshape(rows, size), to_of_hidden)
    for to, source in ((to_inputs_bias, of_gates), (to_hidden_bias, of_inner)):
        if to is not None:
            reduce(text, np.add.reduce, source, [0], None, to)


def _in_its_order(text: Text, array: np.ndarray) -> np.ndarray:
    """Return the array if it has no gaps, else memory for one that has none."""
    return array if array.flags.c_contiguous else text.room(array.size).reshape(array.shape)


def _copy(text: Text, to: np.ndarray, source: np.ndarray) -> None:
    if to is not source:
        text.each(Each(to, "{0}", [source], ["float"]))


def _in_one_piece(text: Text, array: np.ndarray) -> np.ndarray:
    copy = _in_its_order(text, array)
    _copy(text, copy, array)
    return copy


def _panels(text: Text, matrix: np.ndarray) -> np.ndarray:
    """Return a matrix with PANEL columns after the other, each in one piece and filled up as products take it."""
    inner, columns = matrix.shape
    panels = text.room(inner * padded(columns))
    down, along = (stride // matrix.itemsize for stride in matrix.strides)
    for n in range(0, columns, PANEL):
        count = min(PANEL, columns - n)
        places = f"{text.pointer(panels[inner * n :])}, {text.pointer(matrix[:, n:])}, {down}, {along}"
        text.line(f"packed({places}, {inner}, {count}, {padded(count)});")
    return panels


CELLS = (
    f"constexpr int64_t PANEL = {PANEL};\n"
    + """
// Where an episode starts, what was before is zero; the first step goes on from the carry.
static inline void restart(float* state, const uint8_t* start, int64_t t, int64_t envs, int64_t size) {
    for (int64_t n = 0; t && n < envs; ++n)
        if (start[t * envs + n]) std::memset(state + n * size, 0, size * 4);
}

// out [rows, columns] = a [rows, inner] times a matrix that lies in panels.
static void by_panels(float* out, const float* a, const float* panels, int64_t rows, int64_t inner, int64_t columns) {
    for (int64_t n = 0; n < columns; n += PANEL) {
        const int64_t count = columns - n < PANEL ? columns - n : PANEL;
        product(out + n, columns, 1, a, inner, 1, panels + n * inner, (count + 15) / 16 * 16, rows, inner, count);
    }
}

static void lstm(float* out, float* after, float* gates, float* hidden, float* cell, float* squashed, float* inner,
                 const float* carry, const uint8_t* start, const float* weights, const float* inputs_bias,
                 const float* hidden_bias, int64_t steps, int64_t envs, int64_t size) {
    const int64_t width = 4 * size, all = envs * size;
    for (int64_t n = 0; n < envs; ++n) {
        std::memcpy(hidden + n * size, carry + 2 * n * size, size * 4);
        std::memcpy(cell + n * size, carry + (2 * n + 1) * size, size * 4);
    }
    for (int64_t t = 0; t < steps; ++t, hidden += all, cell += all) {
        restart(hidden, start, t, envs, size);
        restart(cell, start, t, envs, size);
        by_panels(inner, hidden, weights, envs, size, width);
        for (int64_t n = 0; n < envs; ++n, gates += width, squashed += size) {
            const float* u = inner + n * width;
            APART
            for (int64_t j = 0; j < width; ++j) gates[j] = gates[j] + u[j] + (inputs_bias[j] + hidden_bias[j]);
            lstm_step(hidden + all + n * size, cell + all + n * size, squashed, gates, cell + n * size, size);
        }
        std::memcpy(out + t * all, hidden + all, all * 4);
    }
    for (int64_t n = 0; n < envs; ++n) {
        std::memcpy(after + 2 * n * size, hidden + n * size, size * 4);
        std::memcpy(after + (2 * n + 1) * size, cell + n * size, size * 4);
    }
}

// `gates` become what each gate is to blame for, before its sigmoid or tanh.
static void lstm_backward(float* gates, float*, float* to_hidden, float* to_cell, const float* to_out,
                          const float* to_after, const float*, const float* cell, const float* squashed,
                          const uint8_t* start, const float* weights, int64_t steps, int64_t envs, int64_t size) {
    const int64_t width = 4 * size, all = envs * size;
    for (int64_t n = 0; n < envs; ++n)
        for (int64_t j = 0; j < size; ++j) {
            to_hidden[n * size + j] = to_after ? to_after[2 * n * size + j] : 0.0f;
            to_cell[n * size + j] = to_after ? to_after[(2 * n + 1) * size + j] : 0.0f;
        }
    for (int64_t t = steps - 1; t >= 0; --t) {
        float* at = gates + t * envs * width;
        for (int64_t n = 0; n < envs; ++n) {
            float *a = at + n * width, *h = to_hidden + n * size, *c = to_cell + n * size;
            const float *before = cell + t * all + n * size, *s = squashed + t * all + n * size,
                        *given = to_out ? to_out + t * all + n * size : h;
            const float share = to_out ? 1.0f : 0.0f;
            APART
            for (int64_t j = 0; j < size; ++j) {
                const float i = a[j], f = a[size + j], g = a[2 * size + j], o = a[3 * size + j];
                const float d = h[j] + share * given[j], e = c[j] + d * o * (1.0f - s[j] * s[j]);
                a[j] = e * g * i * (1.0f - i);
                a[size + j] = e * before[j] * f * (1.0f - f);
                a[2 * size + j] = e * i * (1.0f - g * g);
                a[3 * size + j] = d * s[j] * o * (1.0f - o);
                c[j] = e * f;
            }
        }
        by_panels(to_hidden, at, weights, envs, width, size);
        restart(to_hidden, start, t, envs, size);
        restart(to_cell, start, t, envs, size);
    }
}

static void gru(float* out, float* after, float* gates, float* hidden, float* of_new, float*, float* inner,
                const float* carry, const uint8_t* start, const float* weights, const float* inputs_bias,
                const float* hidden_bias, int64_t steps, int64_t envs, int64_t size) {
    const int64_t width = 3 * size, all = envs * size;
    std::memcpy(hidden, carry, all * 4);
    for (int64_t t = 0; t < steps; ++t, hidden += all) {
        restart(hidden, start, t, envs, size);
        by_panels(inner, hidden, weights, envs, size, width);
        for (int64_t n = 0; n < envs; ++n, gates += width, of_new += size) {
            float* u = inner + n * width;
            APART
            for (int64_t j = 0; j < width; ++j) gates[j] += inputs_bias[j], u[j] += hidden_bias[j];
            gru_step(hidden + all + n * size, gates, u, hidden + n * size, size);
            std::memcpy(of_new, u + 2 * size, size * 4);
        }
        std::memcpy(out + t * all, hidden + all, all * 4);
    }
    std::memcpy(after, hidden, all * 4);
}

// `gates` become what each gate is to blame for, and `inner` the same of the hidden state's share.
static void gru_backward(float* gates, float* inner, float* to_hidden, float* kept, const float* to_out,
                         const float* to_after, const float* hidden, const float* of_new, const float*,
                         const uint8_t* start, const float* weights, int64_t steps, int64_t envs, int64_t size) {
    const int64_t width = 3 * size, all = envs * size;
    for (int64_t j = 0; j < all; ++j) to_hidden[j] = to_after ? to_after[j] : 0.0f;
    for (int64_t t = steps - 1; t >= 0; --t) {
        for (int64_t n = 0; n < envs; ++n) {
            float *a = gates + (t * envs + n) * width, *b = inner + (t * envs + n) * width, *k = kept + n * size;
            const float *h = to_hidden + n * size, *before = hidden + t * all + n * size,
                        *w = of_new + t * all + n * size, *given = to_out ? to_out + t * all + n * size : h;
            const float share = to_out ? 1.0f : 0.0f;
            APART
            for (int64_t j = 0; j < size; ++j) {
                const float r = a[j], z = a[size + j], n_ = a[2 * size + j], d = h[j] + share * given[j];
                const float to_new = d * (1.0f - z) * (1.0f - n_ * n_);
                k[j] = d * z;
                a[j] = b[j] = to_new * w[j] * r * (1.0f - r);
                a[size + j] = b[size + j] = d * (before[j] - n_) * z * (1.0f - z);
                a[2 * size + j] = to_new;
                b[2 * size + j] = to_new * r;
            }
        }
        by_panels(to_hidden, inner + t * envs * width, weights, envs, width, size);
        for (int64_t j = 0; j < all; ++j) to_hidden[j] += kept[j];
        restart(to_hidden, start, t, envs, size);
    }
}

"""
)
