// A block with gradients, in fp32 on channels-last maps: everything after the depthwise convolution, and its gradients.
//
// Rows of a map (positions) are worked on in tiles that stay in the cache where the map is large: normalise, first matrix
// product, GELU, second matrix product. The 4C-wide hidden rows are written once, before the GELU, for the backward pass.
// Where the channels are many and the rows few, whole matrix products over all rows are faster. The products are MKL's,
// which torch brings with it: here the weights are new in every step, and packing them costs what our own products gain.
//
// The norm's affine part is folded into the first layer and layer scale into the second one by the caller.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "rows.h"
#include "tensors.h"

extern "C" void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
                       const float*, const int*, const float*, float*, const int*);

// C (m x n) = op(A) op(B) + beta C, row-major
inline void product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                    float beta, float* c, int64_t ldc) {
  const float one = 1.0f;
  const int M = int(m), N = int(n), K = int(k), A = int(lda), B = int(ldb), C = int(ldc);
  sgemm_(tb ? "T" : "N", ta ? "T" : "N", &N, &M, &K, &one, b, &B, a, &A, &beta, c, &C);
}

// Rows a tile has, so that tiles are alike and every thread has equally many; 0 for all rows in one product.
inline int64_t tile_of(int64_t rows, int64_t channels) {
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

// y: the depthwise convolution's output, x: the residual. Gives the block's output, and if asked to keep them the hidden
// rows and the statistics.
inline std::tuple<Tensor, Tensor, Tensor> mlp(const Tensor& y_, const Tensor& x_, const Tensor& w1, const Tensor& b1, const Tensor& w2,
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
        gelu_rows(hh, g.data(), B1, rows, s.D);
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
  over_rows(s.M, [&](int64_t r, int64_t end) { gelu_rows(h + r * s.D, g + r * s.D, B1, end - r, s.D); });
  product(false, true, s.M, s.C, s.D, g, s.D, W2, s.D, beta, out, s.C);
  if (factor)
    over_rows(s.M, [&](int64_t r, int64_t end) { residual(out + r * s.C, x + r * s.C, B2, factor, r, end - r, s.C, s.positions); });
  return {out_, hidden, stats_};
}

// Gives the gradient of y; of the first layer's folded weight, and bias; and of the second layer, before layer scale:
// (factor grad)^T gelu(hidden), and the sum of factor grad over the rows.
inline std::vector<Tensor> mlp_backward(const Tensor& grad_, const Tensor& y_, const Tensor& hidden, const Tensor& stats_, const Tensor& w1,
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
