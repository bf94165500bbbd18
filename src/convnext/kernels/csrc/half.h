// Forward passes without gradients in bf16 on channels-last maps, as forward.h has them in fp32: a whole block, and the
// layers between the stages. Maps and weights are bf16; sums, norms and the GELU are fp32.
//
// The products are torch's own (brgemm), which use the matrix units of processors that have them. Where there are none a
// plain loop computes the same from the same packed weights: it serves the tests, and is never chosen for speed.

#pragma once

#include <ATen/native/CPUBlas.h>
#include <ATen/ops/zeros.h>

#include "forward.h"

constexpr int64_t WIDEST = 64, HALF_TILE = 128, HALF_CHUNK = 4 * WIDEST;  // columns of a panel, rows, hidden columns

inline bool matrix_units() {
  static const bool found = at::native::cpublas::could_pack(at::kBFloat16);
  return found;
}

// Panels of 64 columns, the last one of as many as are left, in sixteens.
inline int64_t half_panels(int64_t n) { return (n + WIDEST - 1) / WIDEST; }
inline int64_t half_width(int64_t n, int64_t p) { return std::min(WIDEST, (n - p * WIDEST + 15) / 16 * 16); }
inline int64_t half_columns(int64_t n) { return (n + 15) / 16 * 16; }

// sums (rows x n) = or += a (rows x K) times packed columns, panel by panel: [K / 2][width][2]
inline void half_product(int64_t rows, int64_t n, int64_t K, const Bf16* a, int64_t lda, const Bf16* w, float* sums, int64_t ld, bool add) {
  for (int64_t p = 0; p < half_panels(n); p++) {
    const int64_t width = half_width(n, p);
    float* to = sums + p * WIDEST;
    if (matrix_units()) {
      at::native::cpublas::brgemm(rows, width, K, lda, width, ld, add, reinterpret_cast<const at::BFloat16*>(a),
                                  reinterpret_cast<const at::BFloat16*>(w), to, true);
    } else {
      for (int64_t m = 0; m < rows; m++)
        for (int64_t j = 0; j < width; j += NARROW) {
          Vec<NARROW> sum = add ? load<NARROW>(to + m * ld + j) : Vec<NARROW>{};
          for (int64_t k = 0; k < K; k++)
            for (int i = 0; i < NARROW; i++)
              sum[i] += load<1>(a + m * lda + k)[0] * load<1>(w + (k / 2 * width + j + i) * 2 + k % 2)[0];
          store<NARROW>(to + m * ld + j, sum);
        }
    }
    w += K * width;
  }
}

inline void done_with_products() {
  if (matrix_units()) at::native::cpublas::brgemm_release(true);
}

// A linear layer's weight (n x K, fp32), packed; with `chunked` in chunks of HALF_CHUNK of K. An odd K gets a zero.
inline at::Tensor pack_half(const at::Tensor& w_, bool chunked) {
  const int64_t n = w_.size(0), given = w_.size(1), K = (given + 1) / 2 * 2, step = chunked ? HALF_CHUNK : K;
  at::Tensor out_ = at::zeros({half_columns(n) * K}, w_.options().dtype(at::kBFloat16));
  const float* w = w_.const_data_ptr<float>();
  at::BFloat16* out = out_.data_ptr<at::BFloat16>();
  for (int64_t first = 0; first < K; first += step) {
    const int64_t last = std::min(K, first + step);
    for (int64_t p = 0; p < half_panels(n); p++) {
      const int64_t width = half_width(n, p), columns = std::min(width, n - p * WIDEST);
      for (int64_t k = first; k < std::min(last, given); k++)
        for (int64_t j = 0; j < columns; j++)
          out[((k - first) / 2 * width + j) * 2 + k % 2] = at::BFloat16(w[(p * WIDEST + j) * given + k]);
      out += (last - first) * width;
    }
  }
  return out_;
}

// What a block's two linear layers are: packed weights, biases in fp32 padded to half_columns.
struct HalfLinears {
  const Bf16 *w1, *w2;
  const float *b1, *b2;
  int64_t C, D;
};

// The GELU to bf16: 0.5 + x p(x^2) on [-4.2, 4.2], maximum absolute error 1.2e-4 (1.6e-5 within)
template <int L>
inline Vec<L> gelu_half(Vec<L> x) {
  const float end = 4.2f;
  Vec<L> z = x > end ? Vec<L>{} + end : x;
  z = z < -end ? Vec<L>{} - end : z;
  const Vec<L> t = z * z * (2.0f / (end * end)) - 1.0f;
  Vec<L> p = t * 1.88696106e-3f - 5.59287285e-3f;
  p = p * t + 8.59282166e-3f;
  p = p * t - 1.39994798e-2f;
  p = p * t + 2.47801170e-2f;
  p = p * t - 3.88287120e-2f;
  p = p * t + 5.58445379e-2f;
  p = p * t - 8.14936534e-2f;
  p = p * t + 1.67855605e-1f;
  return (x < -end ? Vec<L>{} - end : x) * (z * p + 0.5f);
}

// sums (rows x half_columns(C)) = or += what the hidden columns [first, last) of a tile give
inline void half_columns_onto(const HalfLinears& s, const Bf16* a, int64_t rows, int64_t first, int64_t last, float* wide, Bf16* hidden,
                              float* sums, bool add) {
  const int64_t count = last - first;
  half_product(rows, count, s.C, a, s.C, s.w1 + first * s.C, wide, count, false);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < count; i += WIDE)
      store<WIDE>(hidden + r * count + i, gelu_half<WIDE>(load<WIDE>(wide + r * count + i) + load<WIDE>(s.b1 + first + i)));
  half_product(rows, s.C, count, hidden, count, s.w2 + first * half_columns(s.C), sums, half_columns(s.C), add);
}

// Normalised positions of the depthwise convolution, [from, from + count), as rows of bf16.
inline void half_rows(const Bf16* x, const float* dw, const float* db, Bf16* a, float* one, Map map, int64_t from, int64_t count, float eps) {
  for (int64_t r = 0; r < count; r += map.W) {
    const int64_t some = std::min(map.W, count - r);
    depthwise_positions(x, dw, db, nullptr, one, map.C, map, from + r, some);
    for (int64_t i = 0; i < some; i++) {
      float stats[2];
      normalise(one + i * map.C, one + i * map.C, stats, 1, map.C, eps);
      convert(one + i * map.C, a + (r + i) * map.C, map.C);
    }
  }
}

inline void half_residual(const Bf16* x, const float* sums, const float* bias, Bf16* out, int64_t rows, int64_t C) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < C; c += NARROW)
      store<NARROW>(out + r * C + c, load<NARROW>(x + r * C + c) + load<NARROW>(sums + r * half_columns(C) + c) + load<NARROW>(bias + c));
}

inline Bf16* halves(float* p) { return reinterpret_cast<Bf16*>(p); }
inline const Bf16* halves(const at::Tensor& t) { return reinterpret_cast<const Bf16*>(t.const_data_ptr<at::BFloat16>()); }

// Few rows: the threads share the hidden columns; see block_by_columns.
inline void half_by_columns(const HalfLinears& s, const Bf16* x, const float* dw, const float* db, Bf16* out, Map map, int64_t M, float eps) {
  const int64_t T = at::get_num_threads(), all = s.D / HALF_CHUNK, ld = half_columns(s.C);
  std::vector<float> rows((M * s.C + 1) / 2), parts(T * M * ld);
  at::parallel_for(0, M, 1, [&](int64_t begin, int64_t end) {
    half_rows(x, dw, db, halves(rows.data()) + begin * s.C, scratch(0, map.W * s.C), map, begin, end - begin, eps);
  });
  at::parallel_for(0, T, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      const int64_t from = all * t / T * HALF_CHUNK, to = t + 1 == T ? s.D : all * (t + 1) / T * HALF_CHUNK;
      for (int64_t d = from; d < to; d += HALF_CHUNK)
        half_columns_onto(s, halves(rows.data()), M, d, std::min(to, d + HALF_CHUNK), scratch(1, M * HALF_CHUNK),
                          halves(scratch(2, M * HALF_CHUNK)), parts.data() + t * M * ld, d > from);
    }
    done_with_products();
  });
  for (int64_t t = 1; t < T; t++)
    for (int64_t i = 0; i < M * ld; i += NARROW) add_to<NARROW>(parts.data() + i, load<NARROW>(parts.data() + t * M * ld + i));
  half_residual(x, parts.data(), s.b2, out, M, s.C);
}

inline at::Tensor block_half(const at::Tensor& x_, const at::Tensor& dw_, const at::Tensor& db_, const at::Tensor& w1, const at::Tensor& b1,
                             const at::Tensor& w2, const at::Tensor& b2, int64_t D, double eps) {
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  const int64_t C = map.C, M = x_.size(0) * map.H * map.W, T = at::get_num_threads(), ld = half_columns(C);
  const HalfLinears s{halves(w1), halves(w2), b1.const_data_ptr<float>(), b2.const_data_ptr<float>(), C, D};
  at::Tensor out_ = at::empty_like(x_);
  const Bf16* x = halves(x_);
  const float *dw = dw_.const_data_ptr<float>(), *db = db_.const_data_ptr<float>();
  Bf16* out = reinterpret_cast<Bf16*>(out_.data_ptr<at::BFloat16>());
  if (T > 1 && M < T * 64 && D / HALF_CHUNK >= T) {
    half_by_columns(s, x, dw, db, out, map, M, float(eps));
    return out_;
  }
  const int64_t tile = tile_rows(M, HALF_TILE);
  over_tiles(M, tile, [&](int64_t from, int64_t rows) {
    float *one = scratch(0, map.W * C + tile * ld), *sums = one + map.W * C, *wide = scratch(1, tile * HALF_CHUNK);
    Bf16 *a = halves(scratch(2, tile * (C + HALF_CHUNK))), *g = a + tile * C;
    half_rows(x, dw, db, a, one, map, from, rows, float(eps));
    for (int64_t d = 0; d < D; d += HALF_CHUNK)
      half_columns_onto(s, a, rows, d, std::min(D, d + HALF_CHUNK), wide, g, sums, d > 0);
    half_residual(x + from * C, sums, s.b2, out + from * C, rows, C);
  }, done_with_products);
  return out_;
}

// patches in bf16; x may be fp32 (the picture) or bf16
template <class T>
void half_patches(const T* x, const Bf16* w, const float* bias, const float* gain, const float* shift, Bf16* out, int64_t N, Map map,
                  int64_t n, int64_t p, bool first, float eps) {
  const int64_t C = map.C, h = map.H / p, v = map.W / p, M = N * h * v, L = p * p * C, lda = (L + 1) / 2 * 2, ld = half_columns(n);
  const int64_t tile = tile_rows(M, HALF_TILE);
  over_tiles(M, tile, [&](int64_t from, int64_t rows) {
    float *one = scratch(0, p * C + NARROW), *sums = scratch(1, tile * ld);
    Bf16* a = halves(scratch(2, (tile * lda + 1) / 2));
    for (int64_t r = 0; r < rows; r++) {
      const int64_t i = (from + r) / (h * v), y = (from + r) % (h * v) / v, z = (from + r) % v;
      if (L % 2) a[r * lda + L] = 0;
      for (int64_t d = 0; d < p; d++) {
        const T* line = x + ((i * map.H + y * p + d) * map.W + z * p) * C;
        convert(line, one, p * C);
        if (first)
          for (int64_t q = 0; q < p; q++) {
            float stats[2];
            normalise(one + q * C, one + q * C, stats, 1, C, eps);
          }
        convert(one, a + r * lda + d * p * C, p * C);
      }
    }
    half_product(rows, n, lda, a, lda, w, sums, ld, false);
    for (int64_t r = 0; r < rows; r++) {
      float* sum = sums + r * ld;
      for (int64_t c = 0; c < n; c += NARROW) add_to<NARROW>(sum + c, load<NARROW>(bias + c));
      if (gain) {
        float stats[2];
        normalise(sum, sum, stats, 1, n, eps);
        for (int64_t c = 0; c < n; c += NARROW) store<NARROW>(sum + c, load<NARROW>(sum + c) * load<NARROW>(gain + c) + load<NARROW>(shift + c));
      }
      convert(sum, out + (from + r) * n, n);
    }
  }, done_with_products);
}

inline at::Tensor patches_half(const at::Tensor& x_, const at::Tensor& w, const at::Tensor& b, int64_t n, int64_t p, bool first,
                               const std::optional<at::Tensor>& gain, const std::optional<at::Tensor>& shift, double eps) {
  const int64_t N = x_.size(0);
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  at::Tensor out_ = at::empty({N, n, map.H / p, map.W / p}, x_.options().dtype(at::kBFloat16), at::MemoryFormat::ChannelsLast);
  Bf16* out = reinterpret_cast<Bf16*>(out_.data_ptr<at::BFloat16>());
  const float *bias = b.const_data_ptr<float>(), *g = gain ? gain->const_data_ptr<float>() : nullptr;
  const float* s = shift ? shift->const_data_ptr<float>() : nullptr;
  if (x_.scalar_type() == at::kFloat)
    half_patches(x_.const_data_ptr<float>(), halves(w), bias, g, s, out, N, map, n, p, first, float(eps));
  else
    half_patches(halves(x_), halves(w), bias, g, s, out, N, map, n, p, first, float(eps));
  return out_;
}
