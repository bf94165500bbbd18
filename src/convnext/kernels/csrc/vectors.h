// Vectors of floats as the compiler has them, and the functions of a block, element by element.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

#if defined(__AVX512BF16__) && defined(__AVX512VL__)
constexpr bool DOTS = true;  // the processor multiplies pairs of bf16 and adds both products in one instruction
#else
constexpr bool DOTS = false;
#endif

#if defined(__AVX512F__)
constexpr int WIDE = 16;
#else
constexpr int WIDE = 8;
#endif
constexpr int NARROW = 8;

template <int L>
struct Types {
  typedef float F __attribute__((vector_size(L * 4)));
  typedef float Unaligned __attribute__((vector_size(L * 4), aligned(4)));
  typedef int I __attribute__((vector_size(L * 4)));
  typedef unsigned U __attribute__((vector_size(L * 4)));
  typedef uint16_t H __attribute__((vector_size(L * 2)));
};

using Bf16 = uint16_t;  // a bf16: the upper half of a float
template <int L>
using Vec = typename Types<L>::F;

template <int L>
inline Vec<L> load(const float* p) {
  return *reinterpret_cast<const typename Types<L>::Unaligned*>(p);
}
template <int L>
inline void store(float* p, Vec<L> v) {
  *reinterpret_cast<typename Types<L>::Unaligned*>(p) = v;
}
template <int L>
inline Vec<L> load(const Bf16* p) {
  typename Types<L>::H halves;
  std::memcpy(&halves, p, sizeof halves);
  const typename Types<L>::U bits = __builtin_convertvector(halves, typename Types<L>::U) << 16;
  Vec<L> v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

// rounded to nearest, ties to even; NaN stays NaN; the processor's own conversion makes subnormals 0
template <int L>
inline void store(Bf16* p, Vec<L> v) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
  if constexpr (L == 16) {
    const auto halves = _mm512_cvtneps_pbh((__m512)v);
    std::memcpy(p, &halves, sizeof halves);
    return;
  } else if constexpr (L == 8) {
    const auto halves = _mm256_cvtneps_pbh((__m256)v);
    std::memcpy(p, &halves, sizeof halves);
    return;
  }
#endif
  typename Types<L>::U bits;
  std::memcpy(&bits, &v, sizeof v);
  const typename Types<L>::U rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const typename Types<L>::U nan = rounded * 0 + 0x7fc0;
  const typename Types<L>::H halves = __builtin_convertvector((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded, typename Types<L>::H);
  std::memcpy(p, &halves, sizeof halves);
}

// As `store`, past the cache, for what is read much later; p is a multiple of its size. `settle` before others read it.
template <int L>
inline void store_past(Bf16* p, Vec<L> v) {
  Bf16 halves[L];
  store<L>(halves, v);
  if constexpr (L == 16) {
    __m256i some;
    std::memcpy(&some, halves, sizeof some);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), some);
  } else {
    __m128i some;
    std::memcpy(&some, halves, sizeof some);
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), some);
  }
}
inline void settle() { _mm_sfence(); }

// n values of one kind as the other
template <class From, class To>
inline void convert(const From* from, To* to, int64_t n) {
  int64_t i = 0;
  for (; i + WIDE <= n; i += WIDE) store<WIDE>(to + i, load<WIDE>(from + i));
  for (; i + NARROW <= n; i += NARROW) store<NARROW>(to + i, load<NARROW>(from + i));
  for (; i < n; i++) store<1>(to + i, load<1>(from + i));
}

template <int L>
inline void add_to(float* p, Vec<L> v) {
  store<L>(p, load<L>(p) + v);
}
// by halves, which takes fewer steps one after another than lane by lane, and by name, since what is taken apart by memcpy
// is kept in memory
template <int L>
inline float sum(Vec<L> v) {
  if constexpr (L == 1) return v[0];
#if defined(__AVX512F__)
  if constexpr (L == 16) return _mm512_reduce_add_ps((__m512)v);
#endif
  if constexpr (L == 8) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
  }
}

// The smaller and the larger one; where x is NaN, NaN. (The compiler takes a comparison and a blend for the plain form.)
template <int L>
inline Vec<L> at_most(Vec<L> x, float end) {
  const Vec<L> most = Vec<L>{} + end;
#if defined(__AVX512F__)
  if constexpr (L == 16) return (Vec<L>)_mm512_min_ps((__m512)most, (__m512)x);
#endif
  if constexpr (L == 8) return (Vec<L>)_mm256_min_ps((__m256)most, (__m256)x);
  return most < x ? most : x;
}
template <int L>
inline Vec<L> at_least(Vec<L> x, float end) {
  const Vec<L> least = Vec<L>{} + end;
#if defined(__AVX512F__)
  if constexpr (L == 16) return (Vec<L>)_mm512_max_ps((__m512)least, (__m512)x);
#endif
  if constexpr (L == 8) return (Vec<L>)_mm256_max_ps((__m256)least, (__m256)x);
  return least > x ? least : x;
}
template <int L>
inline Vec<L> magnitude(Vec<L> x) {
  typename Types<L>::U bits;
  std::memcpy(&bits, &x, sizeof x);
  bits &= 0x7fffffffu;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The normal distribution's cumulative function: 0.5 + x p(x^2) on [-5, 5], beyond that its value there. Maximum absolute
// error 2.6e-7 (fitted by weighted least squares in double, checked in single precision on 600,000 points).
template <int L>
inline Vec<L> normal_cdf(Vec<L> x) {
  const float end = 5.0f;
  x = at_least<L>(at_most<L>(x, end), -end);
  const Vec<L> t = x * x * (2.0f / (end * end)) - 1.0f;
  Vec<L> p = t * 6.0872727772e-4f - 1.6132651362e-3f;
  p = p * t + 1.7227994976e-3f;
  p = p * t - 2.6855750475e-3f;
  p = p * t + 6.4105102792e-3f;
  p = p * t - 1.1164339259e-2f;
  p = p * t + 1.6402173787e-2f;
  p = p * t - 2.3268653080e-2f;
  p = p * t + 3.1442172825e-2f;
  p = p * t - 4.0442608297e-2f;
  p = p * t + 5.1520522684e-2f;
  p = p * t - 7.0296280086e-2f;
  p = p * t + 1.4136378467e-1f;
  return x * p + 0.5f;
}

// x times that; maximum absolute error 2e-6, and at most 1.5e-6 away from 0 for x below -5
template <int L>
inline Vec<L> gelu(Vec<L> x) {
  return at_least<L>(x, -5.0f) * normal_cdf<L>(x);
}

// exp for x <= 0: 2^k times a polynomial in the rest
template <int L>
inline Vec<L> exp_of_negative(Vec<L> x) {
  x = at_least<L>(x, -87.0f);
  const auto k = __builtin_convertvector(x * 1.44269504088896341f - 0.5f, typename Types<L>::I);
  const Vec<L> whole = __builtin_convertvector(k, Vec<L>);
  const Vec<L> r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Vec<L> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const typename Types<L>::I bits = (k + 127) << 23;
  Vec<L> scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

// The GELU to bf16: max(x, 0) - u q(u) with u = |x| up to 4; maximum absolute error 2.1e-4, 0.1 % of the value near 0
// (minimax, checked in single precision on 2 million points)
template <int L>
inline Vec<L> gelu_half(Vec<L> x) {
  const Vec<L> u = at_most<L>(magnitude<L>(x), 4.0f);
  Vec<L> q = u * -6.428286433e-4f + 9.921030141e-3f;
  q = q * u - 5.756272003e-2f;
  q = q * u + 1.399598569e-1f;
  q = q * u - 4.279241711e-2f;
  q = q * u - 3.908293545e-1f;
  q = q * u + 5.004941821e-1f;
  return at_least<L>(x, 0.0f) - u * q;
}

// Its derivative: r(u) for x < 0, 1 - r(u) for the others, with u = |x| up to 4.4; maximum absolute error 1.9e-4
template <int L>
inline Vec<L> gelu_slope_half(Vec<L> x) {
  const Vec<L> u = at_most<L>(magnitude<L>(x), 4.4f);
  Vec<L> r = u * -1.283497114e-4f + 2.737431554e-3f;
  r = r * u - 2.373842523e-2f;
  r = r * u + 1.043765843e-1f;
  r = r * u - 2.264955789e-1f;
  r = r * u + 1.452066004e-1f;
  r = r * u + 2.020955086e-1f;
  r = r * u + 1.021162863e-2f;
  r = r * u - 7.974367142e-1f;
  r = r * u + 4.999098182e-1f;
  return x < 0.0f ? r : 1.0f - r;
}
