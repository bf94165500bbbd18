// Forward passes without gradients in bf16 on channels-last maps, as forward.h has them in fp32: a whole block, and the
// layers between the stages. Maps and weights are bf16; sums, norms and the GELU are fp32.
//
// The products are our own where the processor multiplies pairs of bf16, and torch's (brgemm) where it has matrix units.
// Elsewhere our own is emulated: that serves the tests, and is never chosen for speed.

#pragma once

#include <ATen/native/CPUBlas.h>
#include <ATen/ops/zeros.h>

#include "forward.h"
#include "half_norm.h"

constexpr int64_t HALF_CHUNK = 48 * NR;  // hidden columns of a chunk, at most

inline bool matrix_units() {
  static const bool found = at::native::cpublas::could_pack(at::kBFloat16);
  return found;
}

inline const Pair* pairs(const Bf16* p) { return reinterpret_cast<const Pair*>(p); }
inline Bf16* halves(float* p) { return reinterpret_cast<Bf16*>(p); }
inline const Bf16* halves(const at::Tensor& t) { return reinterpret_cast<const Bf16*>(t.const_data_ptr<at::BFloat16>()); }
inline Bf16* halves_of(const at::Tensor& t) { return reinterpret_cast<Bf16*>(t.data_ptr<at::BFloat16>()); }

// A plain tile (rows x K, K even, rows lda apart) times one panel; `begin` and `end` as in product.h.
template <class Begin, class End>
void half_panel(int64_t rows, const Bf16* a, int64_t lda, int64_t K, const Pair* w, Begin begin, End end) {
  if (!matrix_units()) return panel(rows, Left<Pair>::plain(pairs(a), lda / 2, K / 2), w, begin, end);
  float* sums = scratch(7, rows * NR);
  at::native::cpublas::brgemm(rows, NR, K, lda, NR, NR, false, reinterpret_cast<const at::BFloat16*>(a),
                              reinterpret_cast<const at::BFloat16*>(w), sums, true);
  for (int64_t m = 0; m < rows; m++)
    for (int v = 0; v < 2; v++) end(m, v, begin(m, v) + load<WIDE>(sums + m * NR + v * WIDE));
}

inline void done_with_products() {
  if (matrix_units()) at::native::cpublas::brgemm_release(true);
}

// Rows [first, last) of one panel of pairs: those of a linear layer's weight (n x K, transposed), or of a matrix (K x n).
// Beyond n and K there are zeros; first is even.
inline void pack_half_panel(const float* w, int64_t n, int64_t K, bool plain, int64_t p, int64_t first, int64_t last, Pair* out) {
  constexpr int64_t B = 2 * WIDE;  // of K at a time
  const int64_t width = std::min<int64_t>(NR, n - p * NR);
  alignas(64) float two[2][NR] = {};
  for (int64_t k = first; plain && k < last; k += 2, out += NR) {
    for (int64_t h = 0; h < 2; h++) std::memcpy(two[h], w + std::min(k + h, K - 1) * n + p * NR, width * sizeof(float));
    if (k + 1 >= K) std::memset(two[1], 0, sizeof two[1]);
    for (int v = 0; v < 2; v++) store(out + v * WIDE, both(load<WIDE>(two[0] + v * WIDE), load<WIDE>(two[1] + v * WIDE)));
  }
  alignas(64) Bf16 rows[NR][B] = {};
  for (int64_t k = first; !plain && k < last; k += B) {
    const int64_t some = std::min(B, last - k), given = std::min(some, K - k);
    if (given < B) std::memset(rows, 0, sizeof rows);
    for (int64_t j = 0; j < width; j++) convert(w + (p * NR + j) * K + k, rows[j], given);
    for (int64_t i = 0; i < some; i += 2, out += NR)
      for (int64_t j = 0; j < NR; j++) std::memcpy(out + j, &rows[j][i], sizeof(Pair));
  }
}

// The right side of products in bf16, from fp32; see `pack`. An odd K gets a zero.
inline at::Tensor pack_half(const at::Tensor& w_, bool plain, bool chunked) {
  const int64_t n = w_.size(plain ? 1 : 0), given = w_.size(plain ? 0 : 1), K = (given + 1) / 2 * 2, step = chunked ? HALF_CHUNK : K;
  at::Tensor out_ = at::empty({panels(n), K / 2, NR, 2}, w_.options().dtype(at::kBFloat16));
  const float* w = w_.const_data_ptr<float>();
  Pair* out = pairs_of(halves_of(out_));
  at::parallel_for(0, panels(n), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++)
      for (int64_t first = 0; first < K; first += step) {
        const int64_t last = std::min(K, first + step);
        pack_half_panel(w, n, given, plain, p, first, last, out + (first * panels(n) + p * (last - first)) / 2 * NR);
      }
  });
  return out_;
}

// A block's weights: the kernels, the linear layers packed (the second one in chunks), biases in fp32 padded to whole panels.
struct HalfBlock {
  HalfKernels kernels;
  const Pair *w1, *w2;
  const float *b1, *b2;
  int64_t C, D;
};

// rows of a tile, at most: few where they, not the weights, fill the second cache (measured)
inline int64_t half_tile(int64_t channels) { return channels < 512 ? TILE / 2 : TILE; }

inline int64_t half_ld(int64_t channels) { return (channels + 1) / 2 * 2 + 32; }  // of a tile's rows, bf16

// hidden columns [first, last) of a tile, GELU applied
inline void half_hidden(const HalfBlock& s, const Bf16* a, int64_t rows, int64_t first, int64_t last, Bf16* hidden) {
  const int64_t ld = half_ld(last - first);
  for (int64_t p = first / NR; p < last / NR; p++, hidden += NR) {
    const float* bias = s.b1 + p * NR;
    half_panel(rows, a, half_ld(s.C), s.C, s.w1 + p * s.C / 2 * NR, [&](int64_t, int v) { return load<WIDE>(bias + v * WIDE); },
               [&](int64_t m, int v, Vec<WIDE> sum) { store<WIDE>(hidden + m * ld + v * WIDE, gelu_half<WIDE>(sum)); });
  }
}

// WIDE elements of a row, or as many as there are: `left` is a multiple of NARROW.
template <class T>
inline Vec<WIDE> load_row(const T* p, int64_t left) {
  if (left >= WIDE) return load<WIDE>(p);
  Vec<WIDE> v{};
  if (left <= 0) return v;
  const Vec<NARROW> some = load<NARROW>(p);
  std::memcpy(&v, &some, sizeof some);
  return v;
}
template <class T>
inline void store_row(T* p, Vec<WIDE> v, int64_t left) {
  if (left >= WIDE) return store<WIDE>(p, v);
  Vec<NARROW> some;
  std::memcpy(&some, &v, sizeof some);
  if (left > 0) store<NARROW>(p, some);
}

// sums (rows x C, `padded` columns a row) = bias or += hidden w2, for hidden columns [first, last) of one chunk. Where it is the
// last chunk, `finish(row, column, WIDE sums)` takes them instead; columns beyond C are to be left out there.
template <class Finish>
void half_output(const HalfBlock& s, const Bf16* hidden, int64_t rows, int64_t first, int64_t last, float* sums, bool add, bool done,
                 Finish finish) {
  const int64_t ld = padded(s.C), chunk = first / HALF_CHUNK * HALF_CHUNK, width = std::min(HALF_CHUNK, s.D - chunk);
  for (int64_t p = 0; p < panels(s.C); p++) {
    const Pair* w = s.w2 + (chunk * panels(s.C) + p * width + first - chunk) / 2 * NR;
    float* to = sums + p * NR;
    half_panel(rows, hidden, half_ld(last - first), last - first, w,
               [&](int64_t m, int v) { return load<WIDE>(add ? to + m * ld + v * WIDE : s.b2 + p * NR + v * WIDE); },
               [&](int64_t m, int v, Vec<WIDE> sum) {
                 if (done) return finish(m, p * NR + v * WIDE, sum);
                 store<WIDE>(to + m * ld + v * WIDE, sum);
               });
  }
}

// Hidden columns [from, to) of a tile, in pieces that lie in one chunk, and what they give. `hidden` holds a chunk.
template <class Finish>
void half_columns(const HalfBlock& s, const Bf16* a, int64_t rows, int64_t from, int64_t to, Bf16* hidden, float* sums, Finish finish) {
  for (int64_t first = from; first < to;) {
    const int64_t last = std::min(to, (first / HALF_CHUNK + 1) * HALF_CHUNK);
    half_hidden(s, a, rows, first, last, hidden);
    half_output(s, hidden, rows, first, last, sums, first > from, last == to, finish);
    first = last;
  }
}

// Normalised positions of the depthwise convolution, [from, from + count), as rows of bf16; `inverse` gets 1 / deviation.
inline void half_rows(const Bf16* x, const HalfKernels& kernels, Bf16* a, int64_t lda, float* inverse, Map map, int64_t from, int64_t count,
                      float eps) {
  float* one = scratch(0, map.W * map.C);
  for (int64_t r = 0; r < count;) {
    const int64_t some = std::min(map.W - (from + r) % map.W, count - r);
    half_depthwise(x, kernels, one, map.C, map, from + r, some);
    for (int64_t i = 0; i < some; i++, r++) {
      const float found = half_normalise(one + i * map.C, a + r * lda, map.C, eps);
      if (inverse) inverse[r] = found;
    }
  }
}

inline void half_residual(const Bf16* x, const float* sums, int64_t ld, Bf16* out, int64_t rows, int64_t C) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < C; c += NARROW)
      store<NARROW>(out + r * C + c, load<NARROW>(x + r * C + c) + load<NARROW>(sums + r * ld + c));
}

// Few rows: the threads share the hidden columns; see block_by_columns.
inline void half_by_columns(const HalfBlock& s, const Bf16* x, Bf16* out, Map map, int64_t M, float eps) {
  const int64_t T = at::get_num_threads(), ld = padded(s.C), lda = half_ld(s.C), all = s.D / NR;
  std::vector<float> rows(M * lda / 2 + 16), parts(T * M * ld), nothing(padded(s.C));
  Bf16* a = halves(rows.data());
  at::parallel_for(0, M, 1, [&](int64_t begin, int64_t end) {
    half_rows(x, s.kernels, a + begin * lda, lda, nullptr, map, begin, end - begin, eps);
  });
  at::parallel_for(0, T, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      HalfBlock part = s;
      if (t) part.b2 = nothing.data();
      float* to = parts.data() + t * M * ld;
      half_columns(part, a, M, all * t / T * NR, all * (t + 1) / T * NR, halves(scratch(1, M * half_ld(HALF_CHUNK) / 2)), to,
                   [&](int64_t m, int64_t c, Vec<WIDE> sum) { store<WIDE>(to + m * ld + c, sum); });
    }
    done_with_products();
  });
  at::parallel_for(0, M, 1, [&](int64_t begin, int64_t end) {
    float* sums = parts.data() + begin * ld;
    for (int64_t t = 1; t < T; t++)
      for (int64_t i = 0; i < (end - begin) * ld; i += NARROW) add_to<NARROW>(sums + i, load<NARROW>(sums + t * M * ld + i));
    half_residual(x + begin * s.C, sums, ld, out + begin * s.C, end - begin, s.C);
  });
}

inline at::Tensor block_half(const at::Tensor& x_, const at::Tensor& groups, const at::Tensor& dw, const at::Tensor& db, const at::Tensor& w1,
                             const at::Tensor& b1, const at::Tensor& w2, const at::Tensor& b2, int64_t D, double eps) {
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  const int64_t C = map.C, M = x_.size(0) * map.H * map.W, T = at::get_num_threads(), ld = padded(C), lda = half_ld(C);
  const HalfKernels kernels{pairs(halves(groups)), dw.const_data_ptr<float>(), db.const_data_ptr<float>()};
  const HalfBlock s{kernels, pairs(halves(w1)), pairs(halves(w2)), b1.const_data_ptr<float>(), b2.const_data_ptr<float>(), C, D};
  at::Tensor out_ = at::empty_like(x_);
  const Bf16* x = halves(x_);
  Bf16* out = halves_of(out_);
  if (T > 1 && M < T * 64 && D / NR >= 8 * T) {
    half_by_columns(s, x, out, map, M, float(eps));
    return out_;
  }
  const int64_t tile = tile_rows(M, half_tile(C)), most = half_ld(std::min(D, HALF_CHUNK));
  over_tiles(M, tile, [&](int64_t from, int64_t rows) {
    float* sums = scratch(3, tile * ld);
    Bf16* a = halves(scratch(2, tile * lda / 2));
    half_rows(x, kernels, a, lda, nullptr, map, from, rows, float(eps));
    half_columns(s, a, rows, 0, D, halves(scratch(1, tile * most / 2)), sums, [&](int64_t m, int64_t c, Vec<WIDE> sum) {
      const int64_t at = (from + m) * C + c;
      store_row(out + at, load_row(x + at, C - c) + sum, C - c);
    });
  }, done_with_products);
  return out_;
}

// Depthwise kernels (49, C) in fp32 as block_half takes them, turned round if asked for; and a bias (C,).
inline std::tuple<at::Tensor, at::Tensor> pack_depthwise(const at::Tensor& w, const at::Tensor& bias, bool flipped) {
  const int64_t C = w.size(1);
  at::Tensor groups = at::empty({C / NR, 4, K, 2, WIDE, 2}, w.options().dtype(at::kBFloat16)), split = at::empty_like(bias);
  pack_kernels(w.const_data_ptr<float>(), C, flipped, pairs_of(halves_of(groups)));
  split_bias(bias.const_data_ptr<float>(), C, split.data_ptr<float>());
  return {groups, split};
}

// One position of a map, normalised; then times `gain` plus `shift`, where they are given.
template <class T>
inline void normalised(const T* x, Bf16* a, int64_t C, float eps, const float* gain = nullptr, const float* shift = nullptr) {
  const int64_t wide = C / WIDE * WIDE;
  const Spread s = spread(x, wide, C, eps);
  const auto end = [&](auto y, int64_t i) {
    constexpr int L = sizeof(y) / sizeof(float);
    y = (y - s.mean) * s.inverse;
    store<L>(a + i, gain ? y * load<L>(gain + i) + load<L>(shift + i) : y);
  };
  for (int64_t i = 0; i < wide; i += WIDE) end(load<WIDE>(x + i), i);
  for (int64_t i = wide; i < C; i += NARROW) end(load<NARROW>(x + i), i);
}

// The pixels of the patches [from, from + rows) as rows of bf16, normalised first if asked for.
template <class T>
void half_patch_rows(const T* x, Bf16* a, int64_t lda, Map map, int64_t p, bool first, int64_t from, int64_t rows, float eps) {
  const int64_t C = map.C, h = map.H / p, v = map.W / p, L = p * p * C;
  T* one = reinterpret_cast<T*>(scratch(0, L + NARROW));
  for (int64_t r = 0; r < rows; r++) {
    const int64_t i = (from + r) / (h * v), y = (from + r) % (h * v) / v, z = (from + r) % v;
    Bf16* to = a + r * lda;
    if (L % 2) to[L] = 0;
    for (int64_t d = 0; d < p; d++) {
      const T* line = x + ((i * map.H + y * p + d) * map.W + z * p) * C;
      for (int64_t q = 0; first && q < p; q++) normalised(line + q * C, to + (d * p + q) * C, C, eps);
      if (!first) std::memcpy(one + d * p * C, line, p * C * sizeof(T));
    }
    if (!first) convert(one, to, L);
  }
}

// patches in bf16; x may be fp32 (the picture) or bf16
template <class T>
void half_patches(const T* x, const Pair* w, const float* bias, const float* gain, const float* shift, Bf16* out, int64_t N, Map map,
                  int64_t n, int64_t p, bool first, float eps) {
  const int64_t M = N * (map.H / p) * (map.W / p), L = (p * p * map.C + 1) / 2 * 2, lda = half_ld(L), ld = padded(n);
  const int64_t tile = tile_rows(M, TILE);
  over_tiles(M, tile, [&](int64_t from, int64_t rows) {
    float* sums = scratch(1, tile * ld);
    Bf16* a = halves(scratch(2, tile * lda / 2));
    half_patch_rows(x, a, lda, map, p, first, from, rows, eps);
    for (int64_t q = 0; q < panels(n); q++)
      half_panel(rows, a, lda, L, w + q * L / 2 * NR, [&](int64_t, int v) { return load<WIDE>(bias + q * NR + v * WIDE); },
                 [&](int64_t m, int v, Vec<WIDE> sum) { store<WIDE>(sums + m * ld + q * NR + v * WIDE, sum); });
    for (int64_t r = 0; r < rows; r++) {
      if (gain)
        normalised(sums + r * ld, out + (from + r) * n, n, eps, gain, shift);
      else
        convert(sums + r * ld, out + (from + r) * n, n);
    }
  }, done_with_products);
}

inline at::Tensor patches_half(const at::Tensor& x_, const at::Tensor& w, const at::Tensor& b, int64_t n, int64_t p, bool first,
                               const std::optional<at::Tensor>& gain, const std::optional<at::Tensor>& shift, double eps) {
  const int64_t N = x_.size(0);
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  at::Tensor out_ = at::empty({N, n, map.H / p, map.W / p}, x_.options().dtype(at::kBFloat16), at::MemoryFormat::ChannelsLast);
  const float *bias = b.const_data_ptr<float>(), *g = gain ? gain->const_data_ptr<float>() : nullptr;
  const float* s = shift ? shift->const_data_ptr<float>() : nullptr;
  if (x_.scalar_type() == at::kFloat)
    half_patches(x_.const_data_ptr<float>(), pairs(halves(w)), bias, g, s, halves_of(out_), N, map, n, p, first, float(eps));
  else
    half_patches(halves(x_), pairs(halves(w)), bias, g, s, halves_of(out_), N, map, n, p, first, float(eps));
  return out_;
}
