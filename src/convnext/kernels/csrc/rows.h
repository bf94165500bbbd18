// Rows of C channels, one by one: norms, GELU, residuals, sums. C is a multiple of 8.

#pragma once

#include "vectors.h"

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
inline void gelu_rows(float* h, float* g, const float* bias, int64_t rows, int64_t D) {
  for (int64_t r = 0; r < rows; r++, h += D, g += D)
    for (int64_t i = 0; i < D; i += WIDE) {
      const Vec<WIDE> x = load<WIDE>(h + i) + load<WIDE>(bias + i);
      store<WIDE>(h + i, x);
      store<WIDE>(g + i, gelu<WIDE>(x));
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
