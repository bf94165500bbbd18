// A block with gradients in bf16 on channels-last maps: the maps between blocks and all sums are fp32, what is multiplied is
// bf16, as autocast has it. Products are our own (product.h), so this is for processors that multiply pairs of bf16.
//
// A tile of rows (positions) goes through a whole pass while it lies in the cache. Kept for the backward pass: the input in
// bf16, the normalised rows and 1 / deviation, the hidden rows before the GELU. Products whose length K runs over the rows
// (gradients of weights) take pairs of rows. Weights come packed, with the norm's affine part and layer scale folded in.

#pragma once

#include "half.h"
#include "training.h"

inline Tensor halves_like(const Tensor& shape) { return at::empty_like(shape, shape.options().dtype(at::kBFloat16)); }
inline Tensor half_matrix(int64_t rows, int64_t columns, const Tensor& like) {
  return at::empty({rows, columns}, like.options().dtype(at::kBFloat16));
}

// x in fp32 -> its copy in bf16; then a block's output in fp32, normalised rows, 1 / deviation, hidden rows.
inline std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> train_half(const Tensor& x_, const Tensor& groups, const Tensor& dw, const Tensor& db,
                                                                      const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
                                                                      const Maybe& factor_, int64_t D, double eps, bool keep) {
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  const int64_t C = map.C, plane = map.H * map.W, M = x_.size(0) * plane, ld = padded(C), lda = half_ld(C);
  const HalfBlock s{{pairs(halves(groups)), data(dw), data(db)}, pairs(halves(w1)), pairs(halves(w2)), data(b1), data(b2), C, D};
  Tensor xh_ = halves_like(x_), out_ = at::empty_like(x_), a_ = half_matrix(keep ? M : 0, C, x_), inverse_ = at::empty({keep ? M : 0}, x_.options());
  Tensor hidden_ = half_matrix(keep ? M : 0, D, x_);
  const float *x = data(x_), *factor = data(factor_);
  Bf16 *xh = halves_of(xh_), *kept = keep ? halves_of(a_) : nullptr, *h = keep ? halves_of(hidden_) : nullptr;
  float *out = out_of(out_), *inverse = keep ? out_of(inverse_) : nullptr;
  over_rows(M, [&](int64_t begin, int64_t end) { convert(x + begin * C, xh + begin * C, (end - begin) * C); });
  const int64_t tile = tile_rows(M, half_tile(C)), most = half_ld(std::min(D, HALF_CHUNK));
  over_tiles(M, tile, [&](int64_t from, int64_t rows) {
    float* sums = scratch(3, tile * ld);
    Bf16 *a = halves(scratch(2, tile * lda / 2)), *hidden = halves(scratch(1, tile * most / 2));
    half_rows(xh, s.kernels, a, lda, inverse ? inverse + from : nullptr, map, from, rows, float(eps));
    for (int64_t r = 0; keep && r < rows; r++) std::memcpy(kept + (from + r) * C, a + r * lda, C * sizeof(Bf16));
    for (int64_t d = 0; d < D; d += HALF_CHUNK) {
      const int64_t last = std::min(D, d + HALF_CHUNK), ldh = half_ld(last - d);
      for (int64_t p = d / NR; p < last / NR; p++)
        half_panel(rows, a, lda, C, s.w1 + p * C / 2 * NR, [&](int64_t, int v) { return load<WIDE>(s.b1 + p * NR + v * WIDE); },
                   [&](int64_t m, int v, Vec<WIDE> sum) {
                     if (h) store_past<WIDE>(h + (from + m) * D + p * NR + v * WIDE, sum);
                     store<WIDE>(hidden + m * ldh + p * NR - d + v * WIDE, gelu_half<WIDE>(sum));
                   });
      half_output(s, hidden, rows, d, last, sums, d > 0, last == D, [&](int64_t m, int64_t c, Vec<WIDE> sum) {
        const int64_t at = (from + m) * C + c;
        const float f = factor ? factor[(from + m) / plane] : 1.0f;
        store_row(out + at, load_row(x + at, C - c) + f * sum, C - c);
      });
    }
  }, settle);
  return {out_, xh_, a_, inverse_, hidden_};
}

// What the backward pass reads, and what one thread adds up: gradients of the first weight, transposed (C x D), of the second
// one before layer scale (C x D), of the first bias, the sum of factor times grad over the rows, and of the kernels' bias.
struct HalfBack {
  const float *grad, *inverse, *factor;
  const Bf16 *a, *hidden;
  const Pair *w1, *w2;  // as matrices: (D x C), and (C x D)
  int64_t C, D, plane;
  float *dw1, *dw2, *db1, *total, *db;
};

constexpr int64_t BACK_CHUNK = 8 * NR;  // hidden columns of a chunk in the backward pass
inline int64_t back_tile(int64_t channels) { return channels < 128 ? TILE : channels < 512 ? 2 * TILE : 4 * TILE; }  // rows of a tile (measured)

// A tile of two rows each as pairs, (rows + 1) / 2 x C; a missing last row is zero
inline void pair_rows(const Bf16* rows, int64_t lda, int64_t count, int64_t C, Pair* out) {
  for (int64_t r = 0; r < count; r += 2, out += C)
    for (int64_t c = 0; c < C; c += NARROW)
      for (int i = 0; i < NARROW; i++) out[c + i] = rows[r * lda + c + i] | (r + 1 < count ? Pair(rows[(r + 1) * lda + c + i]) << 16 : 0);
}

// From a panel of the GELU's gradients (rows x NR, fp32): those of the hidden rows, `d`, plain and in pairs of rows, and the
// GELU itself in pairs of rows; adds up the bias's gradient.
inline void through_gelu(const float* panel_, const Bf16* h, int64_t ldh, int64_t rows, Bf16* d, int64_t ldd, Pair* d_pairs, Pair* g_pairs, float* db1) {
  for (int v = 0; v < 2; v++, panel_ += WIDE, h += WIDE, d += WIDE, d_pairs += WIDE, g_pairs += WIDE) {
    Vec<WIDE> sums = load<WIDE>(db1 + v * WIDE);
    for (int64_t r = 0; r < rows; r += 2) {
      const bool two = r + 1 < rows;
      const Vec<WIDE> x = load<WIDE>(h + r * ldh), y = two ? load<WIDE>(h + (r + 1) * ldh) : Vec<WIDE>{};
      const Vec<WIDE> first = load<WIDE>(panel_ + r * NR) * gelu_slope_half<WIDE>(x);
      const Vec<WIDE> second = two ? load<WIDE>(panel_ + (r + 1) * NR) * gelu_slope_half<WIDE>(y) : Vec<WIDE>{};
      store<WIDE>(d + r * ldd, first);
      if (two) store<WIDE>(d + (r + 1) * ldd, second);
      store(d_pairs + r / 2 * NR, both(first, second));
      store(g_pairs + r / 2 * NR, both(gelu_half<WIDE>(x), gelu_half<WIDE>(y)));
      sums += first + second;
    }
    store<WIDE>(db1 + v * WIDE, sums);
  }
}

// out (C x D), columns of one panel from `at` on, = or += left^T right over pairs of rows
inline void onto_weights(const Pair* left, const Pair* right, int64_t steps, int64_t C, int64_t D, float* at, bool add) {
  panel(C, Left<Pair, true>{left, C, 0, steps, 1}, right, [&](int64_t m, int v) { return add ? load<WIDE>(at + m * D + v * WIDE) : Vec<WIDE>{}; },
        [&](int64_t m, int v, Vec<WIDE> sum) { store<WIDE>(at + m * D + v * WIDE, sum); });
}

// A tile and the hidden columns [first, last): adds to the weights' gradients (`add`, else sets them), and sets `sums`
// (rows x C, `padded` a row), the gradient of the normalised rows. With `totals` it adds up the second bias's gradient.
inline void half_back_tile(const HalfBack& s, int64_t from, int64_t rows, int64_t first, int64_t last, bool add, bool totals, float* sums) {
  const int64_t C = s.C, D = s.D, ld = padded(C), lda = half_ld(C), steps = (rows + 1) / 2, ldd = half_ld(BACK_CHUNK);
  Bf16 *g = halves(scratch(0, rows * lda / 2)), *d = halves(scratch(1, rows * ldd / 2));
  Pair *g_rows = reinterpret_cast<Pair*>(scratch(2, steps * C)), *a_rows = reinterpret_cast<Pair*>(scratch(3, steps * C));
  Pair *d_pairs = reinterpret_cast<Pair*>(scratch(4, 2 * steps * BACK_CHUNK)), *g_pairs = d_pairs + steps * BACK_CHUNK;
  float* one = scratch(5, rows * NR);
  for (int64_t r = 0; r < rows; r++) {
    const float f = s.factor ? s.factor[(from + r) / s.plane] : 1.0f;
    for (int64_t c = 0; c < C; c += NARROW) {
      const Vec<NARROW> v = f * load<NARROW>(s.grad + (from + r) * C + c);
      store<NARROW>(g + r * lda + c, v);
      if (totals) add_to<NARROW>(s.total + c, v);
    }
  }
  pair_rows(g, lda, rows, C, g_rows);
  pair_rows(s.a + from * C, C, rows, C, a_rows);
  for (int64_t from_column = first; from_column < last;) {
    const int64_t to = std::min(last, from_column + BACK_CHUNK);
    for (int64_t column = from_column; column < to; column += NR) {
      Pair *dp = d_pairs + (column - from_column) * steps, *gp = g_pairs + (column - from_column) * steps;
      const Bf16* h = s.hidden + from * D + column;
      for (int64_t r = 0; r < rows; r++) __builtin_prefetch(h + r * D);
      panel(rows, Left<Pair>::plain(pairs(g), lda / 2, C / 2), s.w2 + column * C / 2, [](int64_t, int) { return Vec<WIDE>{}; },
            [&](int64_t m, int v, Vec<WIDE> sum) { store<WIDE>(one + m * NR + v * WIDE, sum); });
      through_gelu(one, h, D, rows, d + column - from_column, ldd, dp, gp, s.db1 + column);
      onto_weights(a_rows, dp, steps, C, D, s.dw1 + column, add);
      onto_weights(g_rows, gp, steps, C, D, s.dw2 + column, add);
    }
    for (int64_t p = 0; p < panels(C); p++)
      panel(rows, Left<Pair>::plain(pairs(d), ldd / 2, (to - from_column) / 2), s.w1 + (p * D + from_column) / 2 * NR,
            [&](int64_t m, int v) { return from_column > first ? load<WIDE>(sums + m * ld + p * NR + v * WIDE) : Vec<WIDE>{}; },
            [&](int64_t m, int v, Vec<WIDE> sum) { store<WIDE>(sums + m * ld + p * NR + v * WIDE, sum); });
    from_column = to;
  }
}

// The gradient of the normalised rows becomes that of the rows, in bf16; adds up the kernels' bias's gradient.
inline void half_norm_backward(const HalfBack& s, float* sums, int64_t from, int64_t rows, Bf16* gy) {
  const int64_t ld = padded(s.C);
  std::vector<float> a(s.C);
  for (int64_t r = from; r < from + rows; r++, sums += ld) {
    convert(s.a + r * s.C, a.data(), s.C);
    const float stats[2] = {0.0f, s.inverse[r]};
    normalise_backward(sums, a.data(), stats, 1, s.C);
    convert(sums, gy + r * s.C, s.C);
    sum_rows(sums, s.db, 1, s.C);
  }
}

// Gives the gradient of the depthwise convolution's output (bf16) and what HalfBack adds up.
inline std::vector<Tensor> train_half_backward(const Tensor& grad_, const Tensor& a_, const Tensor& inverse_, const Tensor& hidden_, const Tensor& w1,
                                               const Tensor& w2, const Maybe& factor_) {
  const int64_t C = grad_.size(1), plane = grad_.size(2) * grad_.size(3), M = grad_.size(0) * plane, D = hidden_.size(1);
  const int64_t T = at::get_num_threads(), ld = padded(C);
  const bool by_columns = 4 * D > M;  // where weights are larger than maps the threads share columns, and add up maps
  const int64_t parts = by_columns ? 1 : T, maps = by_columns ? T : 0;
  const auto options = grad_.options();
  Tensor gy_ = halves_like(grad_), dw1_ = at::empty({parts, C, D}, options), dw2_ = at::empty({parts, C, D}, options);
  Tensor small_ = at::zeros({T, D + 2 * C}, options), sums_ = at::empty({maps, M, ld}, options);
  Bf16* gy = halves_of(gy_);
  float* sums = out_of(sums_);
  const auto of = [&](int64_t t) {
    float* mine = out_of(small_) + t * (D + 2 * C);
    const int64_t at = by_columns ? 0 : t * C * D;
    return HalfBack{data(grad_), data(inverse_), data(factor_), halves(a_), halves(hidden_), pairs(halves(w1)), pairs(halves(w2)), C, D, plane,
                    out_of(dw1_) + at, out_of(dw2_) + at, mine, mine + D, mine + D + C};
  };
  const int64_t share = by_columns ? M : (M + T - 1) / T, tiles = (share + back_tile(C) - 1) / back_tile(C), tile = ((share + tiles - 1) / tiles + 1) / 2 * 2;
  at::parallel_for(0, T, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      const HalfBack s = of(t);
      const int64_t start = by_columns ? 0 : std::min(M, t * share), stop = std::min(M, start + share), all = D / NR;
      const int64_t first = by_columns ? all * t / T * NR : 0, last = by_columns ? all * (t + 1) / T * NR : D;
      if (start == stop && !by_columns) std::fill_n(s.dw1, C * D, 0.0f), std::fill_n(s.dw2, C * D, 0.0f);
      for (int64_t from = start; from < stop; from += tile) {
        const int64_t rows = std::min(tile, stop - from);
        float* found = by_columns ? sums + (t * M + from) * ld : scratch(6, tile * ld);
        half_back_tile(s, from, rows, first, last, from > start, !by_columns || t == 0, found);
        if (!by_columns) half_norm_backward(s, found, from, rows, gy);
      }
    }
  });
  if (by_columns)
    at::parallel_for(0, T, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++) {
        const int64_t from = M * t / T, to = M * (t + 1) / T;
        for (int64_t other = 1; other < T; other++)
          for (int64_t i = from * ld; i < to * ld; i += NARROW) add_to<NARROW>(sums + i, load<NARROW>(sums + other * M * ld + i));
        half_norm_backward(of(t), sums + from * ld, from, to - from, gy);
      }
    });
  const Tensor small = small_.sum(0);
  return {gy_, dw1_.size(0) == 1 ? dw1_.squeeze(0) : dw1_.sum(0), dw2_.size(0) == 1 ? dw2_.squeeze(0) : dw2_.sum(0), small.narrow(0, 0, D),
          small.narrow(0, D, C), small.narrow(0, D + C, C)};
}

// The gradient of the depthwise convolution's input, from that of its output in bf16 and kernels turned round, plus `plus`.
inline Tensor depthwise_input_half(const Tensor& gy_, const Tensor& groups, const Tensor& dw, const Tensor& none, const Tensor& plus_) {
  const Map map{gy_.size(2), gy_.size(3), gy_.size(1)};
  const int64_t C = map.C, left = split_channels(C);
  const HalfKernels kernels{pairs(halves(groups)), data(dw), data(none)};
  Tensor out_ = at::empty_like(plus_);
  const Bf16* gy = halves(gy_);
  const float* plus = data(plus_);
  float* out = out_of(out_);
  at::parallel_for(0, gy_.size(0) * map.H, 1, [&](int64_t begin, int64_t end) {
    float *row = scratch(0, map.W * C), group[NR];
    for (int64_t r = begin; r < end; r++) {
      half_depthwise(gy, kernels, row, C, map, r * map.W, map.W);
      for (int64_t x = 0; x < map.W; x++) {
        const int64_t at = (r * map.W + x) * C;
        for (int64_t c = 0; c < left; c += NR) {
          in_order(row + x * C + c, group);
          for (int v = 0; v < 2; v++) store<WIDE>(out + at + c + v * WIDE, load<WIDE>(group + v * WIDE) + load<WIDE>(plus + at + c + v * WIDE));
        }
        for (int64_t c = left; c < C; c += NARROW) store<NARROW>(out + at + c, load<NARROW>(row + x * C + c) + load<NARROW>(plus + at + c));
      }
    }
  });
  return out_;
}

// The gradient of the kernels, (49, C) in fp32, from maps in bf16.
inline Tensor depthwise_weight_half(const Tensor& x_, const Tensor& gy_) {
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  const int64_t C = map.C, N = x_.size(0), T = at::get_num_threads(), per = (map.H + 1) / 2;
  Tensor sums_ = at::zeros({T, K * K, C}, x_.options().dtype(at::kFloat)), out_ = at::empty({K * K, C}, sums_.options());
  const Bf16 *x = halves(x_), *gy = halves(gy_);
  float* sums = out_of(sums_);
  const auto run = map.W > 7 ? half_correlate_rows<14> : half_correlate_rows<7>;
  at::parallel_for(0, T, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++)
      for (int64_t r = N * per * t / T; r < N * per * (t + 1) / T; r++) {
        const int64_t at = r / per * map.H * map.W * C;
        run(x + at, gy + at, sums + t * K * K * C, map, r % per * 2);
      }
  });
  const Tensor total = sums_.sum(0);
  const float* from = data(total);
  float* out = out_of(out_);
  for (int64_t k = 0; k < K * K; k++) {
    for (int64_t c = 0; c < split_channels(C); c += NR) in_order(from + k * C + c, out + k * C + c);
    for (int64_t c = split_channels(C); c < C; c++) out[k * C + c] = from[k * C + c];
  }
  return out_;
}
