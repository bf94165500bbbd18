// Our own kernels, as operators of torch. Compiled on first use for the processor that it runs on.
//
// All maps are channels last, with channels in multiples of 8; matrices are row-major. half*.h are in bf16, the rest in fp32.

#include <torch/library.h>

#include "forward.h"
#include "half.h"
#include "half_training.h"
#include "training.h"
#include "training_depthwise.h"

TORCH_LIBRARY(convnext, m) {
  m.def("pack(Tensor w, bool plain, bool chunked) -> Tensor", &pack);
  m.def("block(Tensor x, Tensor dw, Tensor db, Tensor w1, Tensor b1, Tensor w2, Tensor b2, float eps) -> Tensor", &block);
  m.def("patches(Tensor x, Tensor w, Tensor b, int n, int p, bool first, Tensor? gain, Tensor? shift, float eps) -> Tensor", &patches);
  m.def("pack_half(Tensor w, bool plain, bool chunked) -> Tensor", &pack_half);
  m.def("pack_depthwise(Tensor w, Tensor bias, bool flipped) -> (Tensor, Tensor)", &pack_depthwise);
  m.def("block_half(Tensor x, Tensor groups, Tensor dw, Tensor db, Tensor w1, Tensor b1, Tensor w2, Tensor b2, int hidden, float eps) -> Tensor", &block_half);
  m.def("patches_half(Tensor x, Tensor w, Tensor b, int n, int p, bool first, Tensor? gain, Tensor? shift, float eps) -> Tensor", &patches_half);
  m.def("matrix_units() -> bool", &matrix_units);
  m.def("dot_products() -> bool", [] { return DOTS; });
  m.def("mlp(Tensor y, Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor? factor, float eps, bool keep) -> (Tensor, Tensor, Tensor)", &mlp);
  m.def("mlp_backward(Tensor grad, Tensor y, Tensor hidden, Tensor stats, Tensor w1, Tensor w2, Tensor? factor) -> Tensor[]", &mlp_backward);
  m.def("train_half(Tensor x, Tensor groups, Tensor dw, Tensor db, Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor? factor, int hidden, float eps, bool keep) -> (Tensor, Tensor, Tensor, Tensor, Tensor)", &train_half);
  m.def("train_half_backward(Tensor grad, Tensor a, Tensor inverse, Tensor hidden, Tensor w1, Tensor w2, Tensor? factor) -> Tensor[]", &train_half_backward);
  m.def("depthwise_input_half(Tensor grad, Tensor groups, Tensor dw, Tensor none, Tensor plus) -> Tensor", &depthwise_input_half);
  m.def("depthwise_weight_half(Tensor x, Tensor grad) -> Tensor", &depthwise_weight_half);
  m.def("depthwise(Tensor x, Tensor weight, Tensor? bias, Tensor? plus) -> Tensor", &depthwise);
  m.def("depthwise_backward(Tensor x, Tensor grad) -> (Tensor, Tensor)", &depthwise_backward);
}
