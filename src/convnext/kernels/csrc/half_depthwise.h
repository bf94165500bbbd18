// The 7x7 depthwise convolution on channels-last maps of bf16 (zeros around), two rows of the kernel at a time: the values of
// two rows of the map in one pair, multiplied by two taps in one step, with sums in fp32.
//
// Channels are taken in groups of NR, those at even places and those at odd places apart: results of a group stand as its WIDE
// even channels, then its WIDE odd ones ("split"). What is left over after whole groups is computed in fp32, as it stands.

#pragma once

#include <utility>
#include <vector>

#include "depthwise.h"
#include "product.h"

inline int64_t split_channels(int64_t C) { return C / NR * NR; }

// Zeros for all channels of a position, which are read beyond the edges.
inline const Bf16* zeros(int64_t C) {
  static thread_local std::vector<Bf16> held;
  if (int64_t(held.size()) < C + NR) held.resize(C + NR);
  return held.data();
}

// Where the positions lie that B outputs of a row look at: rows y - 3 to y + 4, from column x0 - 3 on. They are looked up once
// for all channels, so that nothing asks for edges where the work is done.
template <int B>
struct Window {
  const Bf16* at[8][B + K - 1];

  Window(const Bf16* in, Map map, int64_t y, int64_t x0) {
    const Bf16* none = zeros(map.C);
    for (int64_t r = 0; r < 8; r++) {
      const int64_t row = y - R + r;
      const bool there = row >= 0 && row < map.H;
      for (int64_t j = 0; j < B + K - 1; j++) {
        const int64_t x = x0 - R + j;
        at[r][j] = there && x >= 0 && x < map.W ? in + (row * map.W + x) * map.C : none;
      }
    }
  }
};

// Two rows at one position as pairs: the even channels of a group, or the odd ones.
template <bool odd>
__attribute__((always_inline)) inline Pairs two_rows(const Bf16* first, const Bf16* second) {
  Pairs a, b;
  std::memcpy(&a, first, sizeof a);
  std::memcpy(&b, second, sizeof b);
  return odd ? (a >> 16) | (b & 0xffff0000u) : (a & 0xffffu) | (b << 16);
}

// As `taps` in depthwise.h, for two rows of a window, `a` and `b`, and the channels from c on.
template <int B, bool odd, bool correlate>
__attribute__((always_inline)) inline void half_taps(const Bf16* const* a, const Bf16* const* b, int64_t c, const Pairs* w, Vec<WIDE>* acc) {
#pragma GCC unroll 20
  for (int j = 0; j < B + K - 1; j++) {
    const Pairs v = two_rows<odd>(a[j] + c, b[j] + c);
#pragma GCC unroll 14
    for (int i = 0; i < B; i++)
      if (j - i >= 0 && j - i < K) acc[correlate ? j - i : i] = multiply_add(acc[correlate ? j - i : i], v, w[correlate ? i : j - i]);
  }
}

// `some` of B outputs of row y, half of the group of channels from c on. w: its kernels, 4 pairs of rows of 7 taps, the last
// one with zeros.
template <int B, bool odd>
void half_convolve(const Window<B>& in, const Pair* w, const float* bias, float* out, int64_t ldo, int64_t H, int64_t y, int64_t some, int64_t c) {
  const int64_t at = c + (odd ? WIDE : 0);
  Vec<WIDE> acc[B];
#pragma GCC unroll 14
  for (int i = 0; i < B; i++) acc[i] = load<WIDE>(bias + at);
  for (int64_t q = 0; q < 4; q++, w += K * NR) {
    const int64_t row = y - R + 2 * q;
    if (row >= H || row < -1) continue;
    Pairs kernel[K];
#pragma GCC unroll 8
    for (int i = 0; i < K; i++) kernel[i] = elements(w + i * NR + (odd ? WIDE : 0));
    half_taps<B, odd, false>(in.at[2 * q], in.at[2 * q + 1], c, kernel, acc);
  }
#pragma GCC unroll 14
  for (int i = 0; i < B; i++)
    if (i < some) store<WIDE>(out + i * ldo + at, acc[i]);
}

template <int B>
void half_convolve_row(const Bf16* in, const Pair* w, const float* bias, float* out, int64_t ldo, Map map, int64_t y, int64_t x0, int64_t end) {
  for (int64_t x = x0; x < end; x += B) {
    const Window<B> window(in, map, y, x);
    float* to = out + (x - x0) * ldo;
    for (int64_t c = 0; c + NR <= map.C; c += NR) {
      half_convolve<B, false>(window, w + c / NR * 4 * K * NR, bias, to, ldo, map.H, y, end - x, c);
      half_convolve<B, true>(window, w + c / NR * 4 * K * NR, bias, to, ldo, map.H, y, end - x, c);
    }
  }
}

// What the kernels look like: pairs of rows for whole groups, fp32 (49, C) for the rest; the bias of the groups split.
struct HalfKernels {
  const Pair* groups;
  const float *plain, *bias;
};

using HalfRun = void (*)(const Bf16*, const Pair*, const float*, float*, int64_t, Map, int64_t, int64_t, int64_t);

// As many positions at once as leave the fewest over at the end of a row of the map; of equals the most.
inline HalfRun half_run(int64_t W) {
  const std::pair<int64_t, HalfRun> known[] = {{14, half_convolve_row<14>}, {12, half_convolve_row<12>}, {8, half_convolve_row<8>},
                                               {7, half_convolve_row<7>},   {6, half_convolve_row<6>},   {4, half_convolve_row<4>}};
  auto best = known[0];
  for (const auto& each : known)
    if ((W + each.first - 1) / each.first * each.first < (W + best.first - 1) / best.first * best.first) best = each;
  return best.second;
}

// `count` positions from `from` on, all in one row of a map, as rows of `out` that are ldo apart; groups are split.
inline void half_depthwise(const Bf16* batch, const HalfKernels& kernels, float* out, int64_t ldo, Map map, int64_t from, int64_t count) {
  const int64_t plane = map.H * map.W, y = from % plane / map.W, x = from % map.W, left = split_channels(map.C);
  const Bf16* in = batch + from / plane * plane * map.C;
  half_run(map.W)(in, kernels.groups, kernels.bias, out, ldo, map, y, x, x + count);
  for (int64_t c = left; c < map.C; c += NARROW)
    for (int64_t i = x; i < x + count; i += 7)
      convolve<NARROW, 7>(in, kernels.plain, kernels.bias, nullptr, out + (i - x) * ldo, ldo, map, y, i, x + count, c);
}

inline Pair* pairs_of(Bf16* p) { return reinterpret_cast<Pair*>(p); }

// A split group in order: NR channels of fp32.
inline void in_order(const float* split, float* out) {
#if defined(__AVX512F__)
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const __m512 even = _mm512_loadu_ps(split), odd = _mm512_loadu_ps(split + 16);
  _mm512_storeu_ps(out, _mm512_permutex2var_ps(even, low, odd));
  _mm512_storeu_ps(out + 16, _mm512_permutex2var_ps(even, high, odd));
#else
  for (int i = 0; i < WIDE; i++) out[2 * i] = split[i], out[2 * i + 1] = split[WIDE + i];
#endif
}

// Gradients of the kernels (49, C), half of the group of channels from c on, split, += those of B positions of the rows y and
// y + 1 of a map. `grad` has their gradients at rows 3 and 4, from column 3 on.
template <int B, bool odd>
void half_correlate(const Window<B>& in, const Window<B>& grad, float* sums, Map map, int64_t y, int64_t c) {
  Pairs w[B];
#pragma GCC unroll 14
  for (int i = 0; i < B; i++) w[i] = two_rows<odd>(grad.at[R][R + i] + c, grad.at[R + 1][R + i] + c);
  for (int64_t k = 0; k < K; k++) {
    if (y + k - R >= map.H || y + k - R < -1) continue;
    float* to = sums + k * K * map.C + c + (odd ? WIDE : 0);
    Vec<WIDE> acc[K];
#pragma GCC unroll 8
    for (int i = 0; i < K; i++) acc[i] = load<WIDE>(to + i * map.C);
    half_taps<B, odd, true>(in.at[k], in.at[k + 1], c, w, acc);
#pragma GCC unroll 8
    for (int i = 0; i < K; i++) store<WIDE>(to + i * map.C, acc[i]);
  }
}

// The same for all channels; the rest of the channels in fp32, in order.
template <int B>
void half_correlate_rows(const Bf16* in, const Bf16* grad, float* sums, Map map, int64_t y) {
  for (int64_t x = 0; x < map.W; x += B) {
    const Window<B> window(in, map, y, x), grads(grad, map, y, x);
    for (int64_t c = 0; c + NR <= map.C; c += NR) {
      half_correlate<B, false>(window, grads, sums, map, y, c);
      half_correlate<B, true>(window, grads, sums, map, y, c);
    }
  }
  for (int64_t c = split_channels(map.C); c < map.C; c += NARROW)
    for (int64_t row = y; row < std::min(y + 2, map.H); row++)
      for (int64_t k = std::max<int64_t>(0, R - row); k < std::min<int64_t>(K, map.H + R - row); k++)
        correlate<NARROW>(in + (row + k - R) * map.W * map.C + c, grad + row * map.W * map.C + c, sums + k * K * map.C + c, map.W, map.C);
}

// (49, C) kernels as pairs of rows, group by group: [C / NR][4][7][even, odd][WIDE].
inline void pack_kernels(const float* w, int64_t C, bool flipped, Pair* out) {
  for (int64_t c = 0; c + NR <= C; c += NR)
    for (int64_t q = 0; q < 4; q++)
      for (int64_t i = 0; i < K; i++)
        for (int64_t v = 0; v < 2; v++)
          for (int64_t l = 0; l < WIDE; l++) {
            Bf16 both[2] = {0, 0};
            for (int64_t h = 0; h < 2 && 2 * q + h < K; h++) {
              const int64_t tap = (2 * q + h) * K + i;
              store<1>(&both[h], load<1>(w + (flipped ? K * K - 1 - tap : tap) * C + c + 2 * l + v));
            }
            std::memcpy(out++, both, sizeof both);
          }
}

inline void split_bias(const float* bias, int64_t C, float* out) {
  for (int64_t c = 0; c < C; c++) out[c] = bias[c];
  for (int64_t c = 0; c + NR <= C; c += NR)
    for (int64_t l = 0; l < WIDE; l++) out[c + l] = bias[c + 2 * l], out[c + WIDE + l] = bias[c + 2 * l + 1];
}
