// Matrix products of our own, in fp32 or of bf16 with sums in fp32, with work done on the results while they are still in
// registers.
//
// The right side is packed once into panels of NR columns, [n / NR][K][NR], so that it is read in order; the left side is
// a tile of rows that lies in the cache. A panel's results for up to MR rows are held in registers for the whole length K.
// A step along K multiplies one float, or a pair of bf16 that follow one another along K: an element is the one or the other.

#pragma once

#include <algorithm>

#include "vectors.h"

#if defined(__AVX512F__)
constexpr int MR = 14;
#else
constexpr int MR = 6;
#endif
constexpr int NR = 2 * WIDE;
constexpr int AHEAD = 8 * NR;  // elements of the panel that are fetched into the first cache before they are needed

using Pair = uint32_t;
using Pairs = Types<WIDE>::U;

inline int64_t panels(int64_t n) { return (n + NR - 1) / NR; }

// The left side: element (m, k) lies at a + m * lda + (k / KIN) * jump + k % KIN, a plain matrix has KIN = K; or, turned,
// at a + m + k * lda.
template <class E, bool turned = false>
struct Left {
  const E* a;
  int64_t lda, jump, kin, outer;
  static Left plain(const E* a, int64_t lda, int64_t K) { return {a, lda, 0, K, 1}; }
  static Left paneled(const E* a, int64_t rows, int64_t K) { return {a, NR, rows * NR, NR, K / NR}; }
  const E* row(int64_t m) const { return a + (turned ? m : m * lda); }
};

inline Vec<WIDE> elements(const float* p) { return load<WIDE>(p); }
inline Pairs elements(const Pair* p) {
  Pairs v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Vec<WIDE> everywhere(float a) { return Vec<WIDE>{} + a; }
inline Pairs everywhere(Pair a) { return Pairs{} + a; }

inline Vec<WIDE> multiply_add(Vec<WIDE> sum, Vec<WIDE> a, Vec<WIDE> b) { return sum + a * b; }
inline Vec<WIDE> as_floats(Pairs bits) {
  Vec<WIDE> v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
inline Vec<WIDE> multiply_add(Vec<WIDE> sum, Pairs a, Pairs b) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
  return (Vec<WIDE>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
  sum += as_floats(a << 16) * as_floats(b << 16);
  return sum + as_floats(a & 0xffff0000u) * as_floats(b & 0xffff0000u);
#endif
}

#if defined(__AVX512BF16__) && defined(__AVX512VL__)
typedef uint16_t Words __attribute__((vector_size(64)));
constexpr Words INTERLEAVED = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                               8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#endif

// Two rows of values as pairs: those of `first` in the lower half.
inline Pairs both(Vec<WIDE> first, Vec<WIDE> second) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
  const __m512i apart = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  return (Pairs)_mm512_permutexvar_epi16((__m512i)INTERLEAVED, apart);
#else
  Bf16 apart[2][WIDE];
  store<WIDE>(apart[0], first);
  store<WIDE>(apart[1], second);
  Pairs v;
  for (int i = 0; i < WIDE; i++) v[i] = apart[0][i] | Pair(apart[1][i]) << 16;
  return v;
#endif
}
inline void store(Pair* p, Pairs v) { std::memcpy(p, &v, sizeof v); }

// M rows of one panel. `begin(i, v)` gives what a sum starts with, `end(i, v, sum)` takes it; v is the half of the panel.
template <int M, class E, bool turned, class Begin, class End>
__attribute__((always_inline)) inline void block_of_rows(const Left<E, turned>& left, int64_t m, const E* b, Begin begin, End end) {
  Vec<WIDE> acc[M][2];
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) {
    acc[i][0] = begin(m + i, 0);
    acc[i][1] = begin(m + i, 1);
  }
  const E* a = left.row(m);
  for (int64_t o = 0; o < left.outer; o++, a += left.jump)
    for (int64_t k = 0; k < left.kin; k++, b += NR) {
      const auto b0 = elements(b), b1 = elements(b + WIDE);
      __builtin_prefetch(b + AHEAD);
      __builtin_prefetch(b + AHEAD + WIDE);
#pragma GCC unroll 16
      for (int i = 0; i < M; i++) {
        const auto v = everywhere(turned ? a[k * left.lda + i] : a[i * left.lda + k]);
        acc[i][0] = multiply_add(acc[i][0], v, b0);
        acc[i][1] = multiply_add(acc[i][1], v, b1);
      }
    }
#pragma GCC unroll 16
  for (int i = 0; i < M; i++) {
    end(m + i, 0, acc[i][0]);
    end(m + i, 1, acc[i][1]);
  }
}

template <int M, class E, bool turned, class Begin, class End>
void some_rows(int count, const Left<E, turned>& left, int64_t m, const E* b, Begin begin, End end) {
  if (count == M)
    block_of_rows<M>(left, m, b, begin, end);
  else if constexpr (M > 1)
    some_rows<M - 1>(count, left, m, b, begin, end);
}

// All rows of a tile for one panel, in blocks of nearly equal height.
template <class E, bool turned, class Begin, class End>
void panel(int64_t rows, const Left<E, turned>& left, const E* b, Begin begin, End end) {
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
