// Matrix products of our own in fp32, with work done on the results while they are still in registers.
//
// The right side is packed once into panels of NR columns, [n / NR][K][NR], so that it is read in order; the left side is
// a tile of rows that lies in the cache. A panel's results for up to MR rows are held in registers for the whole length K.

#pragma once

#include <algorithm>

#include "vectors.h"

#if defined(__AVX512F__)
constexpr int MR = 14;
#else
constexpr int MR = 6;
#endif
constexpr int NR = 2 * WIDE;
constexpr int AHEAD = 8 * NR;  // floats of the panel that are fetched into the first cache before they are needed

inline int64_t panels(int64_t n) { return (n + NR - 1) / NR; }

// The left side: element (m, k) lies at a + m * lda + (k / KIN) * jump + k % KIN; a plain matrix has KIN = K.
struct Left {
  const float* a;
  int64_t lda, jump, kin, outer;
  static Left plain(const float* a, int64_t lda, int64_t K) { return {a, lda, 0, K, 1}; }
  static Left paneled(const float* a, int64_t rows, int64_t K) { return {a, NR, rows * NR, NR, K / NR}; }
  const float* row(int64_t m) const { return a + m * lda; }
};

// M rows of one panel. `begin(i, v)` gives what a sum starts with, `end(i, v, sum)` takes it; v is the half of the panel.
template <int M, class Begin, class End>
__attribute__((always_inline)) inline void block_of_rows(const Left& left, int64_t m, const float* b, Begin begin, End end) {
  Vec<WIDE> acc[M][2];
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) {
    acc[i][0] = begin(m + i, 0);
    acc[i][1] = begin(m + i, 1);
  }
  const float* a = left.row(m);
  for (int64_t o = 0; o < left.outer; o++, a += left.jump)
    for (int64_t k = 0; k < left.kin; k++, b += NR) {
      const Vec<WIDE> b0 = load<WIDE>(b), b1 = load<WIDE>(b + WIDE);
__builtin_prefetch(b + AHEAD);
      __builtin_prefetch(b + AHEAD + WIDE);
#pragma GCC unroll 16
      for (int i = 0; i < M; i++) {
        const Vec<WIDE> v = Vec<WIDE>{} + a[i * left.lda + k];
        acc[i][0] += v * b0;
        acc[i][1] += v * b1;
      }
    }
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) {
    end(m + i, 0, acc[i][0]);
    end(m + i, 1, acc[i][1]);
  }
}

template <int M, class Begin, class End>
void some_rows(int count, const Left& left, int64_t m, const float* b, Begin begin, End end) {
  if (count == M)
    block_of_rows<M>(left, m, b, begin, end);
  else if constexpr (M > 1)
    some_rows<M - 1>(count, left, m, b, begin, end);
}

// All rows of a tile for one panel, in blocks of nearly equal height.
template <class Begin, class End>
void panel(int64_t rows, const Left& left, const float* b, Begin begin, End end) {
  const int64_t blocks = (rows + MR - 1) / MR;
  for (int64_t i = 0; i < blocks; i++) {
    const int64_t from = rows * i / blocks, to = rows * (i + 1) / blocks;
    some_rows<MR>(int(to - from), left, from, b, begin, end);
  }
}

// Rows [first, last) of one panel of a right side (K x n), which lies as rows of it or, transposed, as rows of n; columns
// beyond n are 0.
inline void pack_panel(const float* w, int64_t n, int64_t K, bool transposed, int64_t p, int64_t first, int64_t last, float* out) {
  const int64_t width = std::min<int64_t>(NR, n - p * NR);
  for (int64_t k = first; k < last; k++, out += NR)
    for (int64_t j = 0; j < NR; j++)
      out[j] = j >= width ? 0.0f : transposed ? w[(p * NR + j) * K + k] : w[k * n + p * NR + j];
}
