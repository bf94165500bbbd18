// Forward passes without gradients, in fp32 on channels-last maps: a whole block, and the layers between the stages.
//
// A tile of rows (positions) goes through everything while it lies in the cache: depthwise convolution, norm, first product
// with GELU on its results, second product onto the residual. The 4C-wide hidden rows exist for one chunk of columns at a
// time. Weights come packed, with the norm's affine part and layer scale folded in.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <atomic>
#include <optional>
#include <vector>

#include "depthwise.h"
#include "product.h"
#include "rows.h"

constexpr int64_t TILE = 112, CHUNK = 8 * NR;  // rows of a tile and hidden columns of a chunk, at most

// Memory of this thread that is used again; aligned to a cache line.
inline float* scratch(int which, int64_t floats) {
  static thread_local std::vector<float> held[8];
  if (int64_t(held[which].size()) < floats + 16) held[which].resize(floats + 16);
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(held[which].data()) + 63) / 64 * 64);
}

inline int64_t padded(int64_t channels) { return (channels + NR - 1) / NR * NR + 16; }

// Work on the tiles of `rows` rows: each thread takes the next one when it is done with its last, so that a thread whose
// core is shared with somebody else holds nobody up. `done` is called once by each thread.
template <class Work, class Done = void (*)()>
void over_tiles(int64_t rows, int64_t tile, Work work, Done done = [] {}) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; thread++)
      for (int64_t from; (from = next.fetch_add(tile)) < rows;) work(from, std::min(tile, rows - from));
    done();
  });
}

// What a block's two linear layers are, packed.
struct Linears {
  const float *w1, *b1, *w2, *b2;  // panels of (C x D) and (D x C), biases padded to whole panels
  int64_t C, D;
};

// hidden columns [first, last) of a tile, GELU applied, in panels
inline void hidden_chunk(const Linears& s, const float* a, int64_t rows, int64_t first, int64_t last, float* hidden) {
  const auto left = Left<float>::plain(a, padded(s.C), s.C);
  for (int64_t p = first / NR; p < last / NR; p++) {
    float* out = hidden + (p - first / NR) * rows * NR;
    const float* bias = s.b1 + p * NR;
    panel(rows, left, s.w1 + p * s.C * NR, [&](int64_t, int v) { return load<WIDE>(bias + v * WIDE); },
          [&](int64_t m, int v, Vec<WIDE> sum) { store<WIDE>(out + m * NR + v * WIDE, gelu<WIDE>(sum)); });
  }
}

// out (rows x C) = start + hidden w2 for the hidden columns [first, last); start is `x` plus `bias`, or without x: out itself
inline void onto_output(const Linears& s, const float* hidden, int64_t rows, int64_t first, int64_t last, const float* x,
                        const float* bias, float* out) {
  const auto left = Left<float>::paneled(hidden, rows, last - first);
  for (int64_t p = 0; p < panels(s.C); p++) {
    const float* w = s.w2 + (first * panels(s.C) + p * (last - first)) * NR;
    const int64_t at = p * NR, width = std::min<int64_t>(NR, s.C - at);
    const auto fetch = [&](const float* from, int64_t m, int v) {
      from += m * s.C + at + v * WIDE;
      if (width >= (v + 1) * WIDE) return load<WIDE>(from);
      Vec<WIDE> some{};
      for (int64_t i = v * WIDE; i < width; i++) some[i - v * WIDE] = from[i - v * WIDE];
      return some;
    };
    const auto end = [&](int64_t m, int v, Vec<WIDE> sum) {
      float* to = out + m * s.C + at + v * WIDE;
      if (width >= (v + 1) * WIDE) return store<WIDE>(to, sum);
      for (int64_t i = v * WIDE; i < width; i++) to[i - v * WIDE] = sum[i - v * WIDE];
    };
    if (x)
      panel(rows, left, w, [&](int64_t m, int v) { return fetch(x, m, v) + load<WIDE>(bias + at + v * WIDE); }, end);
    else
      panel(rows, left, w, [&](int64_t m, int v) { return fetch(out, m, v); }, end);
  }
}

// Rows of a tile, so that tiles are alike and every thread has equally many.
inline int64_t tile_rows(int64_t rows, int64_t most) {
  const int64_t threads = at::get_num_threads(), turns = std::max<int64_t>(1, (rows + threads * most - 1) / (threads * most));
  return (rows + threads * turns - 1) / (threads * turns);
}

inline void normalise_tile(float* a, int64_t rows, int64_t C, int64_t lda, float eps) {
  for (int64_t r = 0; r < rows; r++) {
    float stats[2];
    normalise(a + r * lda, a + r * lda, stats, 1, C, eps);
  }
}

// Few rows, many channels: the threads share the hidden columns, each adds up a part of the output, and the parts meet.
inline void block_by_columns(const Linears& s, const float* x, const float* dw, const float* db, float* out, Map map, int64_t M,
                             float eps) {
  const int64_t T = at::get_num_threads(), lda = padded(s.C), all = s.D / CHUNK;
  std::vector<float> rows(M * lda + 16), parts(T * M * s.C);
  at::parallel_for(0, M, 1, [&](int64_t begin, int64_t end) {
    depthwise_positions(x, dw, db, nullptr, rows.data() + begin * lda, lda, map, begin, end - begin);
    normalise_tile(rows.data() + begin * lda, end - begin, s.C, lda, eps);
  });
  const std::vector<float> zeros(M * s.C), none(padded(s.C));
  at::parallel_for(0, T, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      const int64_t from = all * t / T * CHUNK, to = t + 1 == T ? s.D : all * (t + 1) / T * CHUNK;
      float* part = parts.data() + t * M * s.C;
      float* hidden = scratch(1, M * CHUNK);
      for (int64_t d = from; d < to; d += CHUNK) {
        const int64_t last = std::min(to, d + CHUNK);
        hidden_chunk(s, rows.data(), M, d, last, hidden);
        onto_output(s, hidden, M, d, last, d == from ? (t ? zeros.data() : x) : nullptr, t ? none.data() : s.b2, part);
      }
    }
  });
  at::parallel_for(0, M, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * s.C; i < end * s.C; i += NARROW) {
      Vec<NARROW> sum = load<NARROW>(parts.data() + i);
      for (int64_t t = 1; t < T; t++)
        sum += load<NARROW>(parts.data() + t * M * s.C + i);
      store<NARROW>(out + i, sum);
    }
  });
}

inline at::Tensor block(const at::Tensor& x_, const at::Tensor& dw, const at::Tensor& db, const at::Tensor& w1, const at::Tensor& b1,
                        const at::Tensor& w2, const at::Tensor& b2, double eps) {
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  const int64_t M = x_.size(0) * map.H * map.W, T = at::get_num_threads();
  const Linears s{w1.const_data_ptr<float>(), b1.const_data_ptr<float>(), w2.const_data_ptr<float>(), b2.const_data_ptr<float>(),
                  map.C, w2.size(1)};
  at::Tensor out_ = at::empty_like(x_);
  const float *x = x_.const_data_ptr<float>(), *w = dw.const_data_ptr<float>(), *bias = db.const_data_ptr<float>();
  float* out = out_.data_ptr<float>();
  if (T > 1 && M < T * 64 && s.D / CHUNK >= T) {
    block_by_columns(s, x, w, bias, out, map, M, float(eps));
    return out_;
  }
  const int64_t tile = tile_rows(M, TILE), lda = padded(s.C);
  over_tiles(M, tile, [&](int64_t from, int64_t rows) {
    float *a = scratch(0, tile * lda), *hidden = scratch(1, tile * CHUNK);
    depthwise_positions(x, w, bias, nullptr, a, lda, map, from, rows);
    normalise_tile(a, rows, s.C, lda, float(eps));
    for (int64_t d = 0; d < s.D; d += CHUNK) {
      const int64_t last = std::min(s.D, d + CHUNK);
      hidden_chunk(s, a, rows, d, last, hidden);
      onto_output(s, hidden, rows, d, last, d ? nullptr : x + from * s.C, s.b2, out + from * s.C);
    }
  });
  return out_;
}

// A convolution whose kernel is as large as its stride (p), on patches: (N, C, H, W) -> (N, n, H / p, W / p). With `first`
// the positions are normalised before it (affine part folded into the weights), with `gain` and `shift` its results after it.
inline at::Tensor patches(const at::Tensor& x_, const at::Tensor& w, const at::Tensor& b, int64_t n, int64_t p, bool first,
                          const std::optional<at::Tensor>& gain, const std::optional<at::Tensor>& shift, double eps) {
  const int64_t N = x_.size(0), C = x_.size(1), H = x_.size(2), W = x_.size(3), h = H / p, v = W / p, M = N * h * v, L = p * p * C;
  at::Tensor out_ = at::empty({N, n, h, v}, x_.options(), at::MemoryFormat::ChannelsLast);
  const float *x = x_.const_data_ptr<float>(), *weight = w.const_data_ptr<float>(), *bias = b.const_data_ptr<float>();
  const float *g = gain ? gain->const_data_ptr<float>() : nullptr, *s = gain ? shift->const_data_ptr<float>() : nullptr;
  float* out = out_.data_ptr<float>();
  const int64_t tile = tile_rows(M, TILE), lda = (L + 15) / 16 * 16 + 16;
  over_tiles(M, tile, [&](int64_t from, int64_t rows) {
    float *a = scratch(0, tile * lda), *wide = scratch(1, tile * NR * panels(n));
    for (int64_t r = 0; r < rows; r++) {
      const int64_t i = (from + r) / (h * v), y = (from + r) % (h * v) / v, z = (from + r) % v;
      for (int64_t d = 0; d < p; d++) {
        const float* line = x + ((i * H + y * p + d) * W + z * p) * C;
        float* to = a + r * lda + d * p * C;
        if (first)
          for (int64_t q = 0; q < p; q++) {
            float stats[2];
            normalise(line + q * C, to + q * C, stats, 1, C, float(eps));
          }
        else
          std::memcpy(to, line, p * C * sizeof(float));
      }
    }
    const int64_t ldw = NR * panels(n);
    for (int64_t q = 0; q < panels(n); q++)
      panel(rows, Left<float>::plain(a, lda, L), weight + q * L * NR, [&](int64_t, int k) { return load<WIDE>(bias + q * NR + k * WIDE); },
            [&](int64_t m, int k, Vec<WIDE> sum) { store<WIDE>(wide + m * ldw + q * NR + k * WIDE, sum); });
    for (int64_t r = 0; r < rows; r++) {
      float *to = out + (from + r) * n, stats[2];
      if (!g) {
        std::memcpy(to, wide + r * ldw, n * sizeof(float));
        continue;
      }
      normalise(wide + r * ldw, to, stats, 1, n, float(eps));
      for (int64_t c = 0; c < n; c += NARROW) store<NARROW>(to + c, load<NARROW>(to + c) * load<NARROW>(g + c) + load<NARROW>(s + c));
    }
  });
  return out_;
}

// The right side of products: a linear layer's weight (n x K), whose transpose it is, or with `plain` a matrix (K x n).
// With `chunked` the panels are cut into chunks of K, each chunk's panels one after another.
inline at::Tensor pack(const at::Tensor& w_, bool plain, bool chunked) {
  const int64_t n = w_.size(plain ? 1 : 0), K = w_.size(plain ? 0 : 1), step = chunked ? CHUNK : K;
  at::Tensor out_ = at::empty({panels(n), K, NR}, w_.options());
  const float* w = w_.const_data_ptr<float>();
  float* out = out_.data_ptr<float>();
  at::parallel_for(0, panels(n), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++)
      for (int64_t first = 0; first < K; first += step) {
        const int64_t last = std::min(K, first + step);
        pack_panel(w, n, K, !plain, p, first, last, out + (first * panels(n) + p * (last - first)) * NR);
      }
  });
  return out_;
}
