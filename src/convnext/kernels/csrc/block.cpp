// A ConvNeXt block in fp32 on channels-last maps: forward and backward of everything after the depthwise convolution, and
// the 7x7 depthwise convolution with its gradients. Compiled on first use for the processor that it runs on.
//
// Rows of a map (positions) are worked on in tiles that stay in the cache where the map is large: normalise, first matrix
// product, GELU, second matrix product. The 4C-wide hidden rows are written once, before the GELU, for the backward pass.
// Where the channels are many and the rows few, whole matrix products over all rows are faster.
//
// Matrices are row-major. The norm's affine part is folded into the first layer and layer scale into the second one by
// the caller. Channels must be a multiple of 8. The products are MKL's, which torch brings with it.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>
#include <vector>

extern "C" void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
                       const float*, const int*, const float*, float*, const int*);

namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;

// ---------------------------------------------------------------- vectors

#if defined(__AVX512F__)
constexpr int WIDE = 16;
#else
constexpr int WIDE = 8;
#endif
constexpr int NARROW = 8;

template <int L>
struct Types {
  typedef float F __attribute__((vector_size(L * 4)));
  typedef float Unaligned __attribute__((vector_size(L * 4), aligned(4)));
  typedef int I __attribute__((vector_size(L * 4)));
};
template <int L>
using Vec = typename Types<L>::F;

template <int L>
inline Vec<L> load(const float* p) {
  return *reinterpret_cast<const typename Types<L>::Unaligned*>(p);
}
template <int L>
inline void store(float* p, Vec<L> v) {
  *reinterpret_cast<typename Types<L>::Unaligned*>(p) = v;
}
template <int L>
inline void add_to(float* p, Vec<L> v) {
  store<L>(p, load<L>(p) + v);
}
template <int L>
inline float sum(Vec<L> v) {
  float s = 0;
  for (int i = 0; i < L; i++) s += v[i];
  return s;
}

// erf by a rational function of x^2 on [-3.925, 3.925], where it reaches 1 in single precision; error below 4e-7
template <int L>
inline Vec<L> erf(Vec<L> x) {
  const float end = 3.925f;
  x = x > end ? Vec<L>{} + end : x;
  x = x < -end ? Vec<L>{} - end : x;
  const Vec<L> z = x * x;
  Vec<L> p = z * -2.72614225801306e-10f + 2.77068142495902e-08f;
  p = p * z - 2.10102402082508e-06f;
  p = p * z - 5.69250639462346e-05f;
  p = p * z - 7.34990630326855e-04f;
  p = p * z - 2.95459980854025e-03f;
  p = p * z - 1.60960333262415e-02f;
  Vec<L> q = z * -1.45660718464996e-05f - 2.13374055278905e-04f;
  q = q * z - 1.68282697438203e-03f;
  q = q * z - 7.37332916720468e-03f;
  q = q * z - 1.42647390514189e-02f;
  return x * p / q;
}

// exp for x <= 0: 2^k times a polynomial in the rest
template <int L>
inline Vec<L> exp_of_negative(Vec<L> x) {
  x = x < -87.0f ? Vec<L>{} - 87.0f : x;
  const auto k = __builtin_convertvector(x * 1.44269504088896341f - 0.5f, typename Types<L>::I);
  const Vec<L> whole = __builtin_convertvector(k, Vec<L>);
  const Vec<L> r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Vec<L> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const typename Types<L>::I bits = (k + 127) << 23;
  Vec<L> scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

template <int L>
inline Vec<L> normal_cdf(Vec<L> x) {
  return 0.5f * erf<L>(x * 0.70710678118654752f) + 0.5f;
}

// ---------------------------------------------------------------- rows

// C (m x n) = op(A) op(B) + beta C, row-major
inline void product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                    float beta, float* c, int64_t ldc) {
  const float one = 1.0f;
  const int M = int(m), N = int(n), K = int(k), A = int(lda), B = int(ldb), C = int(ldc);
  sgemm_(tb ? "T" : "N", ta ? "T" : "N", &N, &M, &K, &one, b, &B, a, &A, &beta, c, &C);
}

// a = (y - mean) / deviation, row by row; stats holds mean and 1 / deviation
inline void normalise(const float* y, float* a, float* stats, int64_t rows, int64_t C, float eps) {
  for (int64_t r = 0; r < rows; r++, y += C, a += C, stats += 2) {
    Vec<NARROW> total{}, squares{};
    for (int64_t i = 0; i < C; i += NARROW) total += load<NARROW>(y + i);
    const float mean = sum<NARROW>(total) / C;
    for (int64_t i = 0; i < C; i += NARROW) {
      const Vec<NARROW> d = load<NARROW>(y + i) - mean;
      squares += d * d;
    }
    const float inverse = 1.0f / std::sqrt(sum<NARROW>(squares) / C + eps);
    stats[0] = mean;
    stats[1] = inverse;
    for (int64_t i = 0; i < C; i += NARROW) store<NARROW>(a + i, (load<NARROW>(y + i) - mean) * inverse);
  }
}

inline void normalise_again(const float* y, float* a, const float* stats, int64_t rows, int64_t C) {
  for (int64_t r = 0; r < rows; r++, y += C, a += C, stats += 2)
    for (int64_t i = 0; i < C; i += NARROW) store<NARROW>(a + i, (load<NARROW>(y + i) - stats[0]) * stats[1]);
}

// in place: the gradient of the normalised rows becomes that of the rows
inline void normalise_backward(float* g, const float* a, const float* stats, int64_t rows, int64_t C) {
  for (int64_t r = 0; r < rows; r++, g += C, a += C, stats += 2) {
    Vec<NARROW> s{}, t{};
    for (int64_t i = 0; i < C; i += NARROW) {
      const Vec<NARROW> v = load<NARROW>(g + i);
      s += v;
      t += v * load<NARROW>(a + i);
    }
    const float mean = sum<NARROW>(s) / C, along = sum<NARROW>(t) / C;
    for (int64_t i = 0; i < C; i += NARROW)
      store<NARROW>(g + i, stats[1] * (load<NARROW>(g + i) - mean - load<NARROW>(a + i) * along));
  }
}

// h += bias, g = gelu(h)
inline void gelu(float* h, float* g, const float* bias, int64_t rows, int64_t D) {
  for (int64_t r = 0; r < rows; r++, h += D, g += D)
    for (int64_t i = 0; i < D; i += WIDE) {
      const Vec<WIDE> x = load<WIDE>(h + i) + load<WIDE>(bias + i);
      store<WIDE>(h + i, x);
      store<WIDE>(g + i, x * normal_cdf<WIDE>(x));
    }
}

// g = gelu(h), d *= gelu'(h), and the sums of d over the rows
inline void gelu_backward(const float* h, float* g, float* d, float* sums, int64_t rows, int64_t D) {
  for (int64_t r = 0; r < rows; r++, h += D, g += D, d += D)
    for (int64_t i = 0; i < D; i += WIDE) {
      const Vec<WIDE> x = load<WIDE>(h + i), cdf = normal_cdf<WIDE>(x);
      const Vec<WIDE> pdf = exp_of_negative<WIDE>(x * x * -0.5f) * 0.3989422804014327f;
      store<WIDE>(g + i, x * cdf);
      const Vec<WIDE> v = load<WIDE>(d + i) * (cdf + x * pdf);
      store<WIDE>(d + i, v);
      add_to<WIDE>(sums + i, v);
    }
}

// out = x, or x + factor[sample] (z + bias), where z is in out already
inline void residual(float* out, const float* x, const float* bias, const float* factor, int64_t from, int64_t rows, int64_t C,
                     int64_t positions) {
  for (int64_t r = 0; r < rows; r++, out += C, x += C) {
    const float f = factor[(from + r) / positions];
    for (int64_t i = 0; i < C; i += NARROW)
      store<NARROW>(out + i, load<NARROW>(x + i) + f * (load<NARROW>(out + i) + load<NARROW>(bias + i)));
  }
}

inline void start_with(float* out, const float* x, const float* bias, int64_t rows, int64_t C) {
  for (int64_t r = 0; r < rows; r++, out += C, x += C)
    for (int64_t i = 0; i < C; i += NARROW) store<NARROW>(out + i, load<NARROW>(x + i) + load<NARROW>(bias + i));
}

inline void scale_rows(const float* g, float* out, const float* factor, int64_t from, int64_t rows, int64_t C, int64_t positions) {
  for (int64_t r = 0; r < rows; r++, g += C, out += C) {
    const float f = factor[(from + r) / positions];
    for (int64_t i = 0; i < C; i += NARROW) store<NARROW>(out + i, f * load<NARROW>(g + i));
  }
}

inline void sum_rows(const float* g, float* sums, int64_t rows, int64_t C) {
  for (int64_t r = 0; r < rows; r++, g += C)
    for (int64_t i = 0; i < C; i += NARROW) add_to<NARROW>(sums + i, load<NARROW>(g + i));
}

// ---------------------------------------------------------------- tiles

// Rows a tile has, so that tiles are alike and every thread has equally many; 0 for all rows in one product.
int64_t tile_of(int64_t rows, int64_t channels) {
  if (channels >= 384) return 0;
  const int64_t threads = at::get_num_threads(), most = 192;
  const int64_t turns = std::max<int64_t>(1, (rows + threads * most - 1) / (threads * most));
  return (rows + threads * turns - 1) / (threads * turns);
}

template <class Work>
void over_rows(int64_t rows, Work work) {
  at::parallel_for(0, rows, 16, work);
}

struct Shape {
  int64_t C, positions, M, D, tile;
  Shape(const Tensor& y, const Tensor& w1)
      : C(y.size(1)), positions(y.size(2) * y.size(3)), M(y.size(0) * positions), D(w1.size(0)), tile(tile_of(M, C)) {}
};

const float* data(const Tensor& t) { return t.const_data_ptr<float>(); }
const float* data(const Maybe& t) { return t ? t->const_data_ptr<float>() : nullptr; }
float* out_of(const Tensor& t) { return t.data_ptr<float>(); }

// y: the depthwise convolution's output, x: the residual. Gives the block's output, and if asked to keep them the hidden
// rows and the statistics.
std::tuple<Tensor, Tensor, Tensor> mlp(const Tensor& y_, const Tensor& x_, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                                       const Tensor& b2, const Maybe& factor_, double eps, bool keep) {
  const Shape s(y_, w1);
  Tensor out_ = at::empty_like(x_), hidden = at::empty({keep || !s.tile ? s.M : 0, s.D}, y_.options()), stats_ = at::empty({s.M, 2}, y_.options());
  const float *y = data(y_), *x = data(x_), *W1 = data(w1), *B1 = data(b1), *W2 = data(w2), *B2 = data(b2), *factor = data(factor_);
  float *out = out_of(out_), *h = out_of(hidden), *stats = out_of(stats_);
  const float beta = factor ? 0.0f : 1.0f;
  if (s.tile) {
    at::parallel_for(0, (s.M + s.tile - 1) / s.tile, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> a(s.tile * s.C), g(s.tile * s.D);
      for (int64_t t = begin; t < end; t++) {
        const int64_t from = t * s.tile, rows = std::min(s.tile, s.M - from);
        float *o = out + from * s.C, *hh = keep ? h + from * s.D : g.data();
        normalise(y + from * s.C, a.data(), stats + 2 * from, rows, s.C, float(eps));
        product(false, true, rows, s.D, s.C, a.data(), s.C, W1, s.C, 0.0f, hh, s.D);
        gelu(hh, g.data(), B1, rows, s.D);
        if (!factor) start_with(o, x + from * s.C, B2, rows, s.C);
        product(false, true, rows, s.C, s.D, g.data(), s.D, W2, s.D, beta, o, s.C);
        if (factor) residual(o, x + from * s.C, B2, factor, from, rows, s.C, s.positions);
      }
    });
    return {out_, hidden, stats_};
  }
  Tensor a_ = at::empty({s.M, s.C}, y_.options()), g_ = keep ? at::empty({s.M, s.D}, y_.options()) : hidden;
  float *a = out_of(a_), *g = out_of(g_);
  over_rows(s.M, [&](int64_t r, int64_t end) {
    normalise(y + r * s.C, a + r * s.C, stats + 2 * r, end - r, s.C, float(eps));
    if (!factor) start_with(out + r * s.C, x + r * s.C, B2, end - r, s.C);
  });
  product(false, true, s.M, s.D, s.C, a, s.C, W1, s.C, 0.0f, h, s.D);
  over_rows(s.M, [&](int64_t r, int64_t end) { gelu(h + r * s.D, g + r * s.D, B1, end - r, s.D); });
  product(false, true, s.M, s.C, s.D, g, s.D, W2, s.D, beta, out, s.C);
  if (factor)
    over_rows(s.M, [&](int64_t r, int64_t end) { residual(out + r * s.C, x + r * s.C, B2, factor, r, end - r, s.C, s.positions); });
  return {out_, hidden, stats_};
}

// Gives the gradient of y; of the first layer's folded weight, and bias; and of the second layer, before layer scale:
// (factor grad)^T gelu(hidden), and the sum of factor grad over the rows.
std::vector<Tensor> mlp_backward(const Tensor& grad_, const Tensor& y_, const Tensor& hidden, const Tensor& stats_, const Tensor& w1,
                                 const Tensor& w2, const Maybe& factor_) {
  const Shape s(y_, w1);
  const auto options = y_.options();
  const int64_t T = at::get_num_threads(), parts = s.tile ? T : 1;
  Tensor gy_ = at::empty_like(y_), dw1_ = at::zeros({parts, s.D, s.C}, options), db1_ = at::zeros({T, s.D}, options);
  Tensor dw2_ = at::zeros({parts, s.C, s.D}, options), sums_ = at::zeros({T, s.C}, options);
  const float *grad = data(grad_), *y = data(y_), *h = data(hidden), *stats = data(stats_), *W1 = data(w1), *W2 = data(w2);
  const float* factor = data(factor_);
  float *gy = out_of(gy_), *dw1 = out_of(dw1_), *db1 = out_of(db1_), *dw2 = out_of(dw2_), *sums = out_of(sums_);
  if (s.tile) {
    at::parallel_for(0, (s.M + s.tile - 1) / s.tile, 1, [&](int64_t begin, int64_t end) {
      const int64_t me = at::get_thread_num();
      std::vector<float> a(s.tile * s.C), g(s.tile * s.D), d(s.tile * s.D), q(factor ? s.tile * s.C : 0);
      for (int64_t t = begin; t < end; t++) {
        const int64_t from = t * s.tile, rows = std::min(s.tile, s.M - from);
        const float* G = grad + from * s.C;
        if (factor) {
          scale_rows(G, q.data(), factor, from, rows, s.C, s.positions);
          G = q.data();
        }
        sum_rows(G, sums + me * s.C, rows, s.C);
        product(false, false, rows, s.D, s.C, G, s.C, W2, s.D, 0.0f, d.data(), s.D);
        gelu_backward(h + from * s.D, g.data(), d.data(), db1 + me * s.D, rows, s.D);
        product(true, false, s.C, s.D, rows, G, s.C, g.data(), s.D, 1.0f, dw2 + me * s.C * s.D, s.D);
        normalise_again(y + from * s.C, a.data(), stats + 2 * from, rows, s.C);
        product(true, false, s.D, s.C, rows, d.data(), s.D, a.data(), s.C, 1.0f, dw1 + me * s.C * s.D, s.C);
        product(false, false, rows, s.C, s.D, d.data(), s.D, W1, s.C, 0.0f, gy + from * s.C, s.C);
        normalise_backward(gy + from * s.C, a.data(), stats + 2 * from, rows, s.C);
      }
    });
    return {gy_, dw1_.sum(0), db1_.sum(0), dw2_.sum(0), sums_.sum(0)};
  }
  Tensor a_ = at::empty({s.M, s.C}, options), g_ = at::empty({s.M, s.D}, options), d_ = at::empty({s.M, s.D}, options);
  Tensor q_ = factor ? at::empty({s.M, s.C}, options) : Tensor();
  float *a = out_of(a_), *g = out_of(g_), *d = out_of(d_), *q = factor ? out_of(q_) : nullptr;
  const float* G = factor ? q : grad;
  over_rows(s.M, [&](int64_t r, int64_t end) {
    if (factor) scale_rows(grad + r * s.C, q + r * s.C, factor, r, end - r, s.C, s.positions);
    sum_rows(G + r * s.C, sums + at::get_thread_num() * s.C, end - r, s.C);
    normalise_again(y + r * s.C, a + r * s.C, stats + 2 * r, end - r, s.C);
  });
  product(false, false, s.M, s.D, s.C, G, s.C, W2, s.D, 0.0f, d, s.D);
  over_rows(s.M, [&](int64_t r, int64_t end) {
    gelu_backward(h + r * s.D, g + r * s.D, d + r * s.D, db1 + at::get_thread_num() * s.D, end - r, s.D);
  });
  product(true, false, s.C, s.D, s.M, G, s.C, g, s.D, 0.0f, dw2, s.D);
  product(true, false, s.D, s.C, s.M, d, s.D, a, s.C, 0.0f, dw1, s.C);
  product(false, false, s.M, s.C, s.D, d, s.D, W1, s.C, 0.0f, gy, s.C);
  over_rows(s.M, [&](int64_t r, int64_t end) { normalise_backward(gy + r * s.C, a + r * s.C, stats + 2 * r, end - r, s.C); });
  return {gy_, dw1_.squeeze(0), db1_.sum(0), dw2_.squeeze(0), sums_.sum(0)};
}

// ---------------------------------------------------------------- depthwise convolution

constexpr int K = 7, R = K / 2, B = 7;  // kernel, its reach, positions of a row that are worked on at once

// acc[i] += sum over k of in[i + k - R] w[k] ("apply"), or acc[k] += sum over i of in[i + k - R] w[i] ("correlate"):
// B positions from x0 on, one row of the input, L channels
template <int L, bool correlate>
inline void taps(const float* in, const Vec<L>* w, Vec<L>* acc, int64_t x0, int64_t W, int64_t C) {
  const bool inside = x0 >= R && x0 + B + R <= W;
#pragma GCC unroll 16
  for (int j = 0; j < B + K - 1; j++) {
    const int64_t x = x0 - R + j;
    if (!inside && (x < 0 || x >= W)) continue;
    const Vec<L> v = load<L>(in + x * C);
#pragma GCC unroll 8
    for (int i = 0; i < B; i++)
      if (j - i >= 0 && j - i < K) acc[correlate ? j - i : i] += v * w[correlate ? i : j - i];
  }
}

template <int L>
inline void convolve(const float* in, const float* w, const float* bias, const float* plus, float* out, int64_t H, int64_t W,
                     int64_t C, int64_t y, int64_t x0, int64_t c) {
  Vec<L> acc[B], kernel[K];
  for (int i = 0; i < B; i++) acc[i] = bias ? load<L>(bias + c) : Vec<L>{};
  for (int64_t k = 0; k < K; k++) {
    const int64_t row = y + k - R;
    if (row < 0 || row >= H) continue;
#pragma GCC unroll 8
    for (int i = 0; i < K; i++) kernel[i] = load<L>(w + (k * K + i) * C + c);
    taps<L, false>(in + row * W * C + c, kernel, acc, x0, W, C);
  }
  for (int i = 0; i < B && x0 + i < W; i++) {
    const int64_t at = (y * W + x0 + i) * C + c;
    store<L>(out + at, plus ? acc[i] + load<L>(plus + at) : acc[i]);
  }
}

// weight: (49, C). With `plus` that is added to the output.
Tensor dwconv(const Tensor& x_, const Tensor& weight, const Maybe& bias, const Maybe& plus_) {
  const int64_t N = x_.size(0), C = x_.size(1), H = x_.size(2), W = x_.size(3), plane = H * W * C;
  Tensor out_ = at::empty_like(x_);
  const float *x = data(x_), *w = data(weight), *b = data(bias), *plus = data(plus_);
  float* out = out_of(out_);
  at::parallel_for(0, N * H, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t n = r / H, y = r % H;
      const float *in = x + n * plane, *p = plus ? plus + n * plane : nullptr;
      int64_t c = 0;
      for (; c + WIDE <= C; c += WIDE)
        for (int64_t x0 = 0; x0 < W; x0 += B) convolve<WIDE>(in, w, b, p, out + n * plane, H, W, C, y, x0, c);
      for (; c < C; c += NARROW)
        for (int64_t x0 = 0; x0 < W; x0 += B) convolve<NARROW>(in, w, b, p, out + n * plane, H, W, C, y, x0, c);
    }
  });
  return out_;
}

template <int L>
inline void correlate(const float* in, const float* g, float* sums, int64_t W, int64_t C) {
  Vec<L> acc[K], row[B];
  for (int k = 0; k < K; k++) acc[k] = load<L>(sums + k * C);
  for (int64_t x0 = 0; x0 < W; x0 += B) {
    for (int i = 0; i < B; i++) row[i] = x0 + i < W ? load<L>(g + (x0 + i) * C) : Vec<L>{};
    taps<L, true>(in, row, acc, x0, W, C);
  }
  for (int k = 0; k < K; k++) store<L>(sums + k * C, acc[k]);
}

// Gradients of the kernels, (49, C), and of the bias, (C,).
std::tuple<Tensor, Tensor> dwconv_backward(const Tensor& x_, const Tensor& grad_) {
  const int64_t N = x_.size(0), C = x_.size(1), H = x_.size(2), W = x_.size(3), T = at::get_num_threads();
  Tensor gw_ = at::zeros({T, K * K, C}, x_.options()), gb_ = at::zeros({T, C}, x_.options());
  const float *x = data(x_), *grad = data(grad_);
  float *gw = out_of(gw_), *gb = out_of(gb_);
  at::parallel_for(0, N * H, 1, [&](int64_t begin, int64_t end) {
    const int64_t me = at::get_thread_num();
    for (int64_t r = begin; r < end; r++) {
      const int64_t n = r / H, y = r % H;
      const float* g = grad + r * W * C;
      sum_rows(g, gb + me * C, W, C);
      for (int64_t k = std::max<int64_t>(0, R - y); k < std::min<int64_t>(K, H + R - y); k++) {
        const float* in = x + (n * H + y + k - R) * W * C;
        float* sums = gw + (me * K * K + k * K) * C;
        int64_t c = 0;
        for (; c + WIDE <= C; c += WIDE) correlate<WIDE>(in + c, g + c, sums + c, W, C);
        for (; c < C; c += NARROW) correlate<NARROW>(in + c, g + c, sums + c, W, C);
      }
    }
  });
  return {gw_.sum(0), gb_.sum(0)};
}

}  // namespace

TORCH_LIBRARY(convnext, m) {
  m.def("mlp(Tensor y, Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor? factor, float eps, bool keep) -> (Tensor, Tensor, Tensor)", &mlp);
  m.def("mlp_backward(Tensor grad, Tensor y, Tensor hidden, Tensor stats, Tensor w1, Tensor w2, Tensor? factor) -> Tensor[]", &mlp_backward);
  m.def("dwconv(Tensor x, Tensor weight, Tensor? bias, Tensor? plus) -> Tensor", &dwconv);
  m.def("dwconv_backward(Tensor x, Tensor grad) -> (Tensor, Tensor)", &dwconv_backward);
}
