// Normalising rows on their way to bf16, in order or as the depthwise convolution leaves them ("split").

#pragma once

#include <algorithm>
#include <cmath>

#include "half_depthwise.h"

struct Spread {
  float mean, inverse;  // 1 / deviation
};

// Of C values, the first `wide` of them read WIDE at a time. Sums and squares are those of differences from the first value, so
// that a mean far from 0 does not cost precision.
template <class T>
inline Spread spread(const T* x, int64_t wide, int64_t C, float eps) {
  Vec<WIDE> total{}, squares{};
  Vec<NARROW> some{}, others{};
  const float pivot = load<1>(x)[0];
  for (int64_t i = 0; i < wide; i += WIDE) {
    const Vec<WIDE> d = load<WIDE>(x + i) - pivot;
    total += d;
    squares += d * d;
  }
  for (int64_t i = wide; i < C; i += NARROW) {
    const Vec<NARROW> d = load<NARROW>(x + i) - pivot;
    some += d;
    others += d * d;
  }
  const float shift = (sum<WIDE>(total) + sum<NARROW>(some)) / C;
  const float variance = (sum<WIDE>(squares) + sum<NARROW>(others)) / C - shift * shift;
  return {pivot + shift, 1.0f / std::sqrt(std::max(variance, 0.0f) + eps)};
}

// Rows of the depthwise convolution, whose groups are split: normalised, as bf16 in order. Gives 1 / deviation.
inline float half_normalise(const float* y, Bf16* a, int64_t C, float eps) {
  const int64_t left = split_channels(C);
  const auto [mean, inverse] = spread(y, left, C, eps);
  for (int64_t i = 0; i < left; i += NR)
    store(pairs_of(a + i), both((load<WIDE>(y + i) - mean) * inverse, (load<WIDE>(y + i + WIDE) - mean) * inverse));
  for (int64_t i = left; i < C; i += NARROW) store<NARROW>(a + i, (load<NARROW>(y + i) - mean) * inverse);
  return inverse;
}
