// Our own kernels, as operators of torch. Compiled on first use for the processor that it runs on.
//
// All maps are fp32, channels last, with channels in multiples of 8; matrices are row-major.

#include <torch/library.h>

#include "forward.h"
#include "training.h"

TORCH_LIBRARY(convnext, m) {
  m.def("pack(Tensor w, bool plain, bool chunked) -> Tensor", &pack);
  m.def("block(Tensor x, Tensor dw, Tensor db, Tensor w1, Tensor b1, Tensor w2, Tensor b2, float eps) -> Tensor", &block);
  m.def("patches(Tensor x, Tensor w, Tensor b, int n, int p, bool first, Tensor? gain, Tensor? shift, float eps) -> Tensor", &patches);
  m.def("mlp(Tensor y, Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor? factor, float eps, bool keep) -> (Tensor, Tensor, Tensor)", &mlp);
  m.def("mlp_backward(Tensor grad, Tensor y, Tensor hidden, Tensor stats, Tensor w1, Tensor w2, Tensor? factor) -> Tensor[]", &mlp_backward);
  m.def("depthwise(Tensor x, Tensor weight, Tensor? bias, Tensor? plus) -> Tensor", &depthwise);
  m.def("depthwise_backward(Tensor x, Tensor grad) -> (Tensor, Tensor)", &depthwise_backward);
}
