"""What functions in C++ are made of: products, sums, and what goes through rows."""

from __future__ import annotations

PRELUDE = """
#if defined(__AVX512F__)
#define BYTES 64
constexpr int ROWS = 6, WIDE = 4;
#elif defined(__AVX__)
#define BYTES 32
constexpr int ROWS = 6, WIDE = 2;
#else
#define BYTES 16
constexpr int ROWS = 4, WIDE = 2;
#endif
typedef float Lanes __attribute__((vector_size(BYTES), aligned(4)));
constexpr int LANES = BYTES / 4;
constexpr int64_t MOST = 1024;  // numbers that are added up one by one: of more, the sums of so many are

// In products alone a product and a sum are rounded once: elsewhere equal numbers must stay equal.
#if defined(__clang__)
#pragma clang fp contract(fast)
#else
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#endif

// One block of a product: `rows` rows of a, `wide` times LANES columns of b, whose rows lie bk apart.
template <int rows, int wide>
static void block(float* out, int64_t om, int64_t on, const float* a, int64_t am, int64_t ak, const float* b,
                  int64_t bk, int64_t inner, int64_t columns, bool more) {
    Lanes sum[rows][wide] = {};
    for (int64_t k = 0; k < inner; ++k) {
        Lanes line[wide];
        for (int w = 0; w < wide; ++w) line[w] = *(const Lanes*)(b + k * bk + w * LANES);
        for (int r = 0; r < rows; ++r) {
            const float x = a[r * am + k * ak];
            for (int w = 0; w < wide; ++w) sum[r][w] += x * line[w];
        }
    }
    for (int r = 0; r < rows; ++r) {
        if (on == 1 && columns >= wide * LANES && !more)
            for (int w = 0; w < wide; ++w) *(Lanes*)(out + r * om + w * LANES) = sum[r][w];
        else
            for (int64_t c = 0; c < columns && c < wide * LANES; ++c)
                out[r * om + c * on] = ((float*)sum[r])[c] + (more ? out[r * om + c * on] : 0.0f);
    }
}

template <int wide>
static void panel(float* out, int64_t om, int64_t on, const float* a, int64_t am, int64_t ak, const float* b,
                  int64_t bk, int64_t rows, int64_t inner, int64_t columns, bool more) {
    int64_t m = 0;
    for (; m + ROWS <= rows; m += ROWS)
        block<ROWS, wide>(out + m * om, om, on, a + m * am, am, ak, b, bk, inner, columns, more);
    for (; m + 2 <= rows; m += 2) block<2, wide>(out + m * om, om, on, a + m * am, am, ak, b, bk, inner, columns, more);
    if (m < rows) block<1, wide>(out + m * om, om, on, a + m * am, am, ak, b, bk, inner, columns, more);
}

// out[m][n] = sum over k of a[m][k] b[k][n], where b's columns are one after the other, to a multiple of 16 of them.
static void product(float* out, int64_t om, int64_t on, const float* a, int64_t am, int64_t ak, const float* b,
                    int64_t bk, int64_t rows, int64_t inner, int64_t columns) {
    for (int64_t k = 0; k < inner; k += MOST) {
        const int64_t some = inner - k < MOST ? inner - k : MOST;
        for (int64_t n = 0; n < columns; n += WIDE * LANES) {
            const int64_t left = columns - n, wide = (left + LANES - 1) / LANES;
            const auto few = wide == 1 ? panel<1> : wide == 2 ? panel<2> : panel<WIDE < 3 ? WIDE : 3>;
            (wide < WIDE ? few : panel<WIDE>)(out + n * on, om, on, a + k * ak, am, ak, b + k * bk + n, bk, rows, some,
                                              left, k > 0);
        }
    }
}

// The lower or upper halves of two, number by number in turn.
template <int... i> static inline Lanes paired(Lanes a, Lanes b, bool upper, std::integer_sequence<int, i...>) {
#if defined(__clang__)
    return upper ? __builtin_shufflevector(a, b, ((i + LANES) / 2 + i % 2 * LANES)...)
                 : __builtin_shufflevector(a, b, (i / 2 + i % 2 * LANES)...);
#else
    typedef int32_t Places __attribute__((vector_size(BYTES)));
    return upper ? __builtin_shuffle(a, b, Places{((i + LANES) / 2 + i % 2 * LANES)...})
                 : __builtin_shuffle(a, b, Places{(i / 2 + i % 2 * LANES)...});
#endif
}

// LANES rows of `b`, which lie `bn` apart, become the columns of `to`: each time rows are paired with those half of all
// further on, number by number.
static void turned(float* to, int64_t width, const float* b, int64_t bn) {
    Lanes now[LANES], next[LANES];
    for (int i = 0; i < LANES; ++i) now[i] = *(const Lanes*)(b + i * bn);
    for (int done = 1; done < LANES; done *= 2) {
        for (int i = 0; i < LANES; ++i)
            next[i] = paired(now[i / 2], now[(i + LANES) / 2], i % 2, std::make_integer_sequence<int, LANES>());
        for (int i = 0; i < LANES; ++i) now[i] = next[i];
    }
    for (int i = 0; i < LANES; ++i) *(Lanes*)(to + i * width) = now[i];
}

static void packed(float* to, const float* b, int64_t bk, int64_t bn, int64_t inner, int64_t columns, int64_t width) {
    const bool across = bk == 1 && bn != 1;
    const int64_t deep = across ? inner / LANES * LANES : 0, wide = across ? columns / LANES * LANES : 0;
    for (int64_t n = 0; n < wide; n += LANES)
        for (int64_t k = 0; k < deep; k += LANES) turned(to + k * width + n, width, b + n * bn + k, bn);
    for (int64_t k = 0; k < inner; ++k)
        for (int64_t n = k < deep ? wide : 0; n < width; ++n)
            to[k * width + n] = n < columns ? b[k * bk + n * bn] : 0.0f;
}

static inline float dot(const float* a, const float* b, int64_t n) {
    Lanes sums = {}, more = {};
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        sums += *(const Lanes*)(a + i) * *(const Lanes*)(b + i);
        more += *(const Lanes*)(a + i + LANES) * *(const Lanes*)(b + i + LANES);
    }
    sums += more;
    float sum = 0.0f;
    for (int k = 0; k < LANES; ++k) sum += sums[k];
    for (; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC pop_options
#endif

template <class T> static inline T total(const T* a, int64_t n) {
    std::conditional_t<std::is_same_v<T, float>, double, T> whole = 0;
    int64_t i = 0;
    while (i + 16 <= n) {
        T sums[16] = {};
        for (const int64_t end = n < i + MOST ? n : i + MOST; i + 16 <= end; i += 16)
            for (int k = 0; k < 16; ++k) sums[k] += a[i + k];
        for (int k = 0; k < 16; ++k) whole += sums[k];
    }
    for (; i < n; ++i) whole += a[i];
    return whole;
}

static inline int64_t within(int64_t place, int64_t n) { return place < 0 ? 0 : place < n ? place : n - 1; }

// The same of a place that may be counted from the end.
static inline int64_t along(int64_t place, int64_t n) { return within(place < 0 ? place + n : place, n); }

template <class T, class I>
static void argmax(I* out, const T* a, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; ++r, a += n) {
        int64_t best = 0;
        for (int64_t k = 1; k < n; ++k)
            if (a[k] > a[best] || (a[k] != a[k] && a[best] == a[best])) best = k;
        out[r] = best;
    }
}

// The sum of f(0) to f(n - 1), several at once.
template <int n, class F> static inline float over(F f) {
    float sums[16] = {}, sum = 0.0f;
    for (int i = 0; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; ++k) sums[k] += f(i + k);
    if (n >= 16)
        for (int k = 0; k < 16; ++k) sum += sums[k];
    for (int i = n / 16 * 16; i < n; ++i) sum += f(i);
    return sum;
}

template <int n>
static void layer_norm(float* out, float* mean, float* scale, const float* x, const float* w, const float* b,
                       int64_t rows, double eps) {
    for (int64_t r = 0; r < rows; ++r, x += n, out += n) {
        const float first = x[0], m = over<n>([&](int i) { return x[i] - first; }) / n;  // as numbers may be large
        const float s = 1.0f / std::sqrt(over<n>([&](int i) {
            const float apart = x[i] - first - m;
            return apart * apart;
        }) / n + (float)eps);
        mean[r] = first + m, scale[r] = s;
        APART
        for (int i = 0; i < n; ++i) out[i] = (x[i] - first - m) * s * (w ? w[i] : 1.0f) + (b ? b[i] : 0.0f);
    }
}

template <int n>
static void layer_norm_backward(float* to_x, float* to_w, float* to_b, const float* g, const float* x,
                                const float* mean, const float* scale, const float* w, int64_t rows) {
    float of_w[n] = {}, of_b[n] = {}, each[n], apart[n];
    for (int64_t r = 0; r < rows; ++r, g += n, x += n) {
        for (int i = 0; i < n; ++i) {
            apart[i] = (x[i] - mean[r]) * scale[r];
            each[i] = g[i] * (w ? w[i] : 1.0f);
            of_w[i] += g[i] * apart[i];
            of_b[i] += g[i];
        }
        const float one = over<n>([&](int i) { return each[i]; }) / n;
        const float two = over<n>([&](int i) { return each[i] * apart[i]; }) / n;
        if (to_x)
            for (int i = 0; i < n; ++i) to_x[r * n + i] = scale[r] * (each[i] - one - apart[i] * two);
    }
    for (int i = 0; to_w && i < n; ++i) to_w[i] = of_w[i];
    for (int i = 0; to_b && i < n; ++i) to_b[i] = of_b[i];
}

template <int n> static void log_softmax(float* out, const float* a, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r, a += n, out += n) {
        float most = a[0], sum = 0.0f;
        for (int k = 1; k < n; ++k) most = tl.maximum(most, a[k]);
        for (int k = 0; k < n; ++k) sum += tl.exp(a[k] - most);
        const float log = std::log(sum);
        for (int k = 0; k < n; ++k) out[k] = (a[k] - most) - log;
    }
}

template <int n> static void softmax(float* out, const float* a, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r, a += n, out += n) {
        float most = a[0], sum = 0.0f;
        for (int k = 1; k < n; ++k) most = tl.maximum(most, a[k]);
        for (int k = 0; k < n; ++k) sum += out[k] = tl.exp(a[k] - most);
        for (int k = 0; k < n; ++k) out[k] /= sum;
    }
}

template <int n> static void log_softmax_backward(float* out, const float* g, const float* y, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r, g += n, y += n, out += n) {
        float sum = 0.0f;
        for (int k = 0; k < n; ++k) sum += g[k];
        for (int k = 0; k < n; ++k) out[k] = g[k] - tl.exp(y[k]) * sum;
    }
}

template <int n> static void softmax_backward(float* out, const float* g, const float* y, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r, g += n, y += n, out += n) {
        float sum = 0.0f;
        for (int k = 0; k < n; ++k) sum += g[k] * y[k];
        for (int k = 0; k < n; ++k) out[k] = y[k] * (g[k] - sum);
    }
}

"""
