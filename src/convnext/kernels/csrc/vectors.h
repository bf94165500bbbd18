// Vectors of floats as the compiler has them, and the functions of a block, element by element.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

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

// rounded to nearest, ties to even; NaN stays NaN
template <int L>
inline void store(Bf16* p, Vec<L> v) {
  typename Types<L>::U bits;
  std::memcpy(&bits, &v, sizeof v);
  const typename Types<L>::U rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const typename Types<L>::U nan = rounded * 0 + 0x7fc0;
  const typename Types<L>::H halves = __builtin_convertvector((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded, typename Types<L>::H);
  std::memcpy(p, &halves, sizeof halves);
}

// n values of one kind as the other
template <class From, class To>
inline void convert(const From* from, To* to, int64_t n) {
  int64_t i = 0;
  for (; i + NARROW <= n; i += NARROW) store<NARROW>(to + i, load<NARROW>(from + i));
  for (; i < n; i++) store<1>(to + i, load<1>(from + i));
}

template <int L>
inline void add_to(float* p, Vec<L> v) {
  store<L>(p, load<L>(p) + v);
}
template <int L>
inline float sum(Vec<L> v) {
  float s = 0;
  for (int i = 0; i < L; i++) s += v[i];
  return s;
}

// The normal distribution's cumulative function: 0.5 + x p(x^2) on [-5, 5], beyond that its value there. Maximum absolute
// error 2.6e-7 (fitted by weighted least squares in double, checked in single precision on 600,000 points).
template <int L>
inline Vec<L> normal_cdf(Vec<L> x) {
  const float end = 5.0f;
  x = x > end ? Vec<L>{} + end : x;
  x = x < -end ? Vec<L>{} - end : x;
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
  return (x < -5.0f ? Vec<L>{} - 5.0f : x) * normal_cdf<L>(x);
}

// exp for x <= 0: 2^k times a polynomial in the rest
template <int L>
inline Vec<L> exp_of_negative(Vec<L> x) {
  x = x < -87.0f ? Vec<L>{} - 87.0f : x;
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
