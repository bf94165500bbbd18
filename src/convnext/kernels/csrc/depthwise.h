// The 7x7 depthwise convolution on channels-last maps of fp32 (zeros around), and its gradients.

#pragma once

#include <algorithm>

#include "vectors.h"

constexpr int K = 7, R = K / 2;  // the kernel, its reach

// One map of a batch: H x W positions of C channels.
struct Map {
  int64_t H, W, C;
};

template <class T>
alignas(64) constexpr T nothing[2 * WIDE] = {};  // what is read beyond the edges, so that nothing has to branch

// acc[i] += sum over k of in[i + k - R] w[k] ("apply"), or acc[k] += sum over i of in[i + k - R] w[i] ("correlate"):
// B positions from x0 on, one row of the input, L channels
template <int L, int B, bool correlate, class T>
inline void taps(const T* in, const Vec<L>* w, Vec<L>* acc, int64_t x0, int64_t W, int64_t C) {
#pragma GCC unroll 16
  for (int j = 0; j < B + K - 1; j++) {
    const int64_t x = x0 - R + j;
    const Vec<L> v = load<L>(x >= 0 && x < W ? in + x * C : nothing<T>);
#pragma GCC unroll 8
    for (int i = 0; i < B; i++)
      if (j - i >= 0 && j - i < K) acc[correlate ? j - i : i] += v * w[correlate ? i : j - i];
  }
}

// Up to B positions (y, x0 ..., before `end`) and L channels from c on; w: (49, C). out is that of position (y, x0).
template <int L, int B, class T>
inline void convolve(const T* in, const float* w, const float* bias, const float* plus, float* out, int64_t ldo, Map map,
                     int64_t y, int64_t x0, int64_t end, int64_t c) {
  Vec<L> acc[B], kernel[K];
  for (int i = 0; i < B; i++) acc[i] = bias ? load<L>(bias + c) : Vec<L>{};
  for (int64_t k = 0; k < K; k++) {
    const int64_t row = y + k - R;
    if (row < 0 || row >= map.H) continue;
#pragma GCC unroll 8
    for (int i = 0; i < K; i++) kernel[i] = load<L>(w + (k * K + i) * map.C + c);
    taps<L, B, false>(in + row * map.W * map.C + c, kernel, acc, x0, map.W, map.C);
  }
  for (int i = 0; i < B && x0 + i < end; i++)
    store<L>(out + i * ldo + c, plus ? acc[i] + load<L>(plus + ((y * map.W) + x0 + i) * map.C + c) : acc[i]);
}

template <int B, class T>
void convolve_row(const T* in, const float* w, const float* bias, const float* plus, float* out, int64_t ldo, Map map,
                  int64_t y, int64_t x0, int64_t end) {
  int64_t c = 0;
  for (; c + WIDE <= map.C; c += WIDE)
    for (int64_t x = x0; x < end; x += B) convolve<WIDE, B>(in, w, bias, plus, out + (x - x0) * ldo, ldo, map, y, x, end, c);
  for (; c < map.C; c += NARROW)
    for (int64_t x = x0; x < end; x += B) convolve<NARROW, B>(in, w, bias, plus, out + (x - x0) * ldo, ldo, map, y, x, end, c);
}

// Positions from `from` on (counted through all maps of a batch), rows of `out` that are ldo apart. `plus`, maps like the
// input in fp32, is added.
template <class T>
void depthwise_positions(const T* batch, const float* w, const float* bias, const float* plus, float* out, int64_t ldo,
                                Map map, int64_t from, int64_t count) {
  const int64_t plane = map.H * map.W;
  const auto run = map.W % 7 == 0   ? convolve_row<7, T>
                   : map.W % 8 == 0 ? convolve_row<8, T>
                   : map.W % 6 == 0 ? convolve_row<6, T>
                                    : convolve_row<7, T>;
  while (count > 0) {
    const int64_t n = from / plane, y = from % plane / map.W, x = from % map.W, some = std::min(count, map.W - x);
    run(batch + n * plane * map.C, w, bias, plus ? plus + n * plane * map.C : nullptr, out, ldo, map, y, x, x + some);
    from += some, count -= some, out += some * ldo;
  }
}

template <int L, class T>
inline void correlate(const T* in, const T* g, float* sums, int64_t W, int64_t C) {
  constexpr int B = 7;
  Vec<L> acc[K], row[B];
  for (int k = 0; k < K; k++) acc[k] = load<L>(sums + k * C);
  for (int64_t x0 = 0; x0 < W; x0 += B) {
    for (int i = 0; i < B; i++) row[i] = x0 + i < W ? load<L>(g + (x0 + i) * C) : Vec<L>{};
    taps<L, B, true>(in, row, acc, x0, W, C);
  }
  for (int k = 0; k < K; k++) store<L>(sums + k * C, acc[k]);
}
