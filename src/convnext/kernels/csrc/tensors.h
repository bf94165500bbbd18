// The numbers of a tensor in fp32, or of one that may be absent.

#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

using at::Tensor;
using Maybe = std::optional<Tensor>;

inline const float* data(const Tensor& t) { return t.const_data_ptr<float>(); }
inline const float* data(const Maybe& t) { return t ? t->const_data_ptr<float>() : nullptr; }
inline float* out_of(const Tensor& t) { return t.data_ptr<float>(); }
