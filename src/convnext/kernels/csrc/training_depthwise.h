// The 7x7 depthwise convolution with gradients, in fp32 on channels-last maps (zeros around).

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <tuple>

#include "depthwise.h"
#include "rows.h"
#include "tensors.h"

// The convolution with another kernel, (49, C), plus something: the gradient of its input, with the kernel turned round.
inline Tensor depthwise(const Tensor& x_, const Tensor& weight, const Maybe& bias_, const Maybe& plus_) {
  const Map map{x_.size(2), x_.size(3), x_.size(1)};
  Tensor out_ = at::empty_like(x_);
  const float *x = data(x_), *w = data(weight), *bias = data(bias_), *plus = data(plus_);
  float* out = out_of(out_);
  at::parallel_for(0, x_.size(0) * map.H * map.W, map.W, [&](int64_t begin, int64_t end) {
    depthwise_positions(x, w, bias, plus, out + begin * map.C, map.C, map, begin, end - begin);
  });
  return out_;
}

// Gradients of the kernels, (49, C), and of the bias, (C,).
inline std::tuple<Tensor, Tensor> depthwise_backward(const Tensor& x_, const Tensor& grad_) {
  const int64_t N = x_.size(0), C = x_.size(1), H = x_.size(2), W = x_.size(3), T = at::get_num_threads();
  Tensor gw_ = at::zeros({T, K * K, C}, x_.options()), gb_ = at::zeros({T, C}, x_.options());
  const float *x = data(x_), *grad = data(grad_);
  float *gw = out_of(gw_), *gb = out_of(gb_);
  at::parallel_for(0, N * H, 1, [&](int64_t begin, int64_t end) {
    const int64_t me = at::get_thread_num();
    for (int64_t r = begin; r < end; r++) {
      const int64_t n = r / H, y = r % H;
      const float* g = grad + r * W * C;
      sum_rows(g, gb + me * C, W, C);
      for (int64_t k = std::max<int64_t>(0, R - y); k < std::min<int64_t>(K, H + R - y); k++) {
        const float* in = x + (n * H + y + k - R) * W * C;
        float* sums = gw + (me * K * K + k * K) * C;
        int64_t c = 0;
        for (; c + WIDE <= C; c += WIDE) correlate<WIDE>(in + c, g + c, sums + c, W, C);
        for (; c < C; c += NARROW) correlate<NARROW>(in + c, g + c, sums + c, W, C);
      }
    }
  });
  return {gw_.sum(0), gb_.sum(0)};
}
