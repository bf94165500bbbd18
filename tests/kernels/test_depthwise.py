"""The depthwise convolution against torch's own operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.kernels.depthwise import DepthwiseConv2d, _whole, depthwise_conv2d
from convnext.nn.convnext.backbone import ConvNeXt

CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
Conv = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def stock(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


def tensors(n: int, c: int, h: int, w: int, k: int = 7, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Picture, kernel, bias, and the gradient of the output."""
    generator = torch.Generator().manual_seed(n + 10 * h + 100 * w + 1000 * k)
    shapes = ((n, c, h, w), (c, 1, k, k), (c,), (n, c, h, w))
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def run(conv: Conv, x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> list[Tensor]:
    """Output, and the gradients of picture, kernel and bias."""
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    out = conv(*leaves)
    out.backward(grad.to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize(("n", "h", "w", "k"), [(2, 5, 4, 3), (1, 3, 8, 7), (2, 1, 1, 5), (0, 3, 3, 3)])
def test_gradients_are_those_of_finite_differences(n: int, h: int, w: int, k: int, layout: torch.memory_format) -> None:
    """In double, all three gradients agree with finite differences, also for kernels larger than the picture."""
    x, weight, bias, _ = tensors(n, 3, h, w, k, torch.float64)
    leaves = [t.requires_grad_() for t in (x.contiguous(memory_format=layout), weight, bias)]
    assert torch.autograd.gradcheck(depthwise_conv2d, leaves)


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("h", "w", "k"), [(14, 14, 7), (9, 13, 7), (1, 1, 7), (2, 31, 7), (8, 8, 3), (7, 5, 5)])
def test_equals_the_stock_operator_in_fp32(n: int, h: int, w: int, k: int, layout: torch.memory_format) -> None:
    """The output is the same to the bit and in the same layout; gradients agree to 1e-5 of their largest value."""
    x, weight, bias, grad = tensors(n, 6, h, w, k)
    x, grad = x.contiguous(memory_format=layout), grad.contiguous(memory_format=layout)
    ours, theirs = run(depthwise_conv2d, x, weight, bias, grad), run(stock, x, weight, bias, grad)
    assert torch.equal(ours[0], theirs[0])
    assert ours[0].stride() == theirs[0].stride()
    for our_grad, their_grad in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(our_grad, their_grad, rtol=0, atol=1e-5 * their_grad.abs().max().item())


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize("n", [1, 16])
def test_is_as_exact_as_the_stock_operator_in_bf16(n: int, layout: torch.memory_format) -> None:
    """In bf16 each gradient is within a bf16 rounding step (2^-8) of the exact one, measured by its largest value."""
    x, weight, bias, grad = tensors(n, 6, 15, 9, dtype=torch.bfloat16)
    x, grad = x.contiguous(memory_format=layout), grad.contiguous(memory_format=layout)
    ours, theirs = run(depthwise_conv2d, x, weight, bias, grad), run(stock, x, weight, bias, grad)
    exact = run(stock, *(t.double() for t in (x, weight, bias, grad)))
    assert torch.equal(ours[0], theirs[0])
    for our_grad, their_grad, exact_grad in zip(ours[1:], theirs[1:], exact[1:], strict=True):
        assert our_grad.dtype == their_grad.dtype == torch.bfloat16
        largest = exact_grad.abs().max().item()
        torch.testing.assert_close(our_grad.double(), exact_grad, rtol=0, atol=2**-8 * largest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_is_that_of_the_stock_operator(dtype: torch.dtype) -> None:
    """Under autocast fp32 becomes bf16 and double stays double, as with the stock operator; gradients are in the dtype
    of the parameters, and as near to the exact ones as bf16 is (the stock operator's are not on every processor).
    """
    x, weight, bias, grad = tensors(2, 6, 9, 9, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = run(depthwise_conv2d, x, weight, bias, grad), run(stock, x, weight, bias, grad)
    assert ours[0].dtype == (torch.bfloat16 if dtype == torch.float32 else dtype)
    assert torch.equal(ours[0], theirs[0])
    exact = run(stock, *(t.double() for t in (x, weight, bias, grad)))
    for our_grad, exact_grad in zip(ours[1:], exact[1:], strict=True):
        assert our_grad.dtype == dtype
        torch.testing.assert_close(our_grad.double(), exact_grad, rtol=0, atol=2**-7 * exact_grad.abs().max().item())


def test_autocast_around_backward_only_changes_nothing() -> None:
    """A forward pass in fp32 has fp32 gradients even if `backward` is called inside autocast."""
    x, weight, bias, grad = tensors(2, 6, 9, 9)
    plain = run(depthwise_conv2d, x, weight, bias, grad)
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    out = depthwise_conv2d(*leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out.backward(grad)
    for leaf, expected in zip(leaves, plain[1:], strict=True):
        assert torch.equal(leaf.grad, expected)


def test_without_gradients_no_graph_is_built() -> None:
    """Under `no_grad` and `inference_mode` the output is the stock operator's, without a graph."""
    x, weight, bias, _ = tensors(2, 6, 9, 9)
    weight.requires_grad_()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            out = depthwise_conv2d(x, weight, bias)
            assert torch.equal(out, stock(x, weight, bias))
        assert out.grad_fn is None


def test_the_fast_backward_is_in_use() -> None:
    """With gradients on the CPU the graph holds our operator: the tests above do not compare stock with stock."""
    x, weight, _, _ = tensors(1, 2, 8, 8)
    assert "DepthwiseConv2d" in type(depthwise_conv2d(x, weight.requires_grad_()).grad_fn).__name__


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_tensors_get_no_gradient(frozen: int) -> None:
    """A frozen picture, kernel or bias gets none, and the gradients of the others are unchanged."""
    x, weight, bias, grad = tensors(2, 6, 9, 9)
    full = run(depthwise_conv2d, x, weight, bias, grad)[1:]
    leaves = [t.clone().requires_grad_(i != frozen) for i, t in enumerate((x, weight, bias))]
    depthwise_conv2d(*leaves).backward(grad)
    for i, leaf in enumerate(leaves):
        assert leaf.grad is None if i == frozen else torch.equal(leaf.grad, full[i])


def test_second_derivatives_are_those_of_finite_differences() -> None:
    """Gradients of gradients, as gradient penalties and Hessian products need them."""
    x, weight, bias = (
        torch.randn(s, dtype=torch.double, requires_grad=True) for s in ((2, 3, 5, 4), (3, 1, 3, 3), (3,))
    )
    assert torch.autograd.gradgradcheck(depthwise_conv2d, (x, weight, bias))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch's own forward mode
def test_torch_func_sees_the_stock_operator() -> None:
    """Per-sample gradients, forward-mode derivatives and vmap give what they give for the stock convolution."""
    x, weight, bias = torch.randn(4, 3, 6, 6), torch.randn(3, 1, 3, 3), torch.randn(3)
    tangents = tuple(torch.randn_like(t) for t in (x, weight, bias))

    def stock(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weight, bias, padding=1, groups=3)

    found, expected = [], []
    for function, out in ((depthwise_conv2d, found), (stock, expected)):
        loss = lambda w, one, function=function: function(one.unsqueeze(0), w, bias).square().sum()  # noqa: E731
        out.append(torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x))
        out.append(torch.func.jvp(function, (x, weight, bias), tangents)[1])
        out.append(torch.func.jacrev(lambda w, function=function: function(x, w, bias).sum((0, 2, 3)))(weight))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_works_without_bias() -> None:
    """Without a bias the output and gradients are the stock operator's."""
    x, weight, _, grad = tensors(2, 6, 9, 9)
    results = []
    for conv in (depthwise_conv2d, stock):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        out = conv(*leaves)
        out.backward(grad)
        results.append([out, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_takes_gradients_of_any_layout() -> None:
    """Expanded, transposed and sliced gradients of the output give what their contiguous copies give."""
    x, weight, bias, grad = tensors(2, 6, 9, 9)
    layouts = [
        torch.ones(()).expand(2, 6, 9, 9),
        grad.transpose(2, 3).contiguous().transpose(2, 3),
        torch.stack((grad, grad), -1)[..., 0],
        grad.contiguous(memory_format=CHANNELS_LAST),
    ]
    for strided in layouts:
        ours = run(depthwise_conv2d, x, weight, bias, strided)
        expected = run(stock, x, weight, bias, strided.contiguous())
        for our_grad, their_grad in zip(ours, expected, strict=True):
            torch.testing.assert_close(our_grad, their_grad, rtol=0, atol=1e-5 * their_grad.abs().max().item())


def test_is_deterministic() -> None:
    """Two runs give the same bits."""
    case = tensors(3, 6, 13, 11)
    for first, second in zip(run(depthwise_conv2d, *case), run(depthwise_conv2d, *case), strict=True):
        assert torch.equal(first, second)


def test_gradients_are_adjoint() -> None:
    """The operator is linear in picture and in kernel: <out - bias, g> = <x, grad_x> = <weight, grad_weight>."""
    x, weight, bias, grad = tensors(3, 5, 10, 7, dtype=torch.float64)
    out, grad_x, grad_weight, _ = run(depthwise_conv2d, x, weight, bias, grad)
    expected = ((out - bias.view(1, -1, 1, 1)) * grad).sum()
    torch.testing.assert_close((x * grad_x).sum(), expected)
    torch.testing.assert_close((weight * grad_weight).sum(), expected)


def test_a_single_picture_without_batch_is_the_stock_operators() -> None:
    """(C, H, W) works as in torch, gradient included."""
    x, weight, bias, grad = tensors(1, 6, 9, 9)
    ours = run(depthwise_conv2d, x[0], weight, bias, grad[0])
    for got, expected in zip(ours, run(stock, x[0], weight, bias, grad[0]), strict=True):
        assert torch.equal(got, expected)


def test_module_has_the_names_and_shapes_of_conv2d() -> None:
    """The module's state is that of `nn.Conv2d`, and so is what it computes."""
    ours, theirs = DepthwiseConv2d(6), torch.nn.Conv2d(6, 6, 7, padding=3, groups=6)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 12, 10)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler looks at it itself
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_the_operator_for_torchs_compiler_is_what_it_says(layout: torch.memory_format, bias: bool) -> None:
    """torch's own checks of an operator: schema, shapes without data, gradients, tracing with symbolic shapes."""
    x = torch.randn(2, 8, 9, 10).to(memory_format=layout).requires_grad_()
    weight, shift = torch.randn(8, 1, 7, 7, requires_grad=True), torch.randn(8, requires_grad=True)
    found = torch.library.opcheck(_whole, (x, weight, shift if bias else None))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_compiled_network_is_one_graph_with_the_same_gradients(frozen: bool) -> None:
    """No break at the blocks; traced alone, without torch's code generator, which takes a minute (`make test-full`)."""
    torch.manual_seed(0)
    model = ConvNeXt((1, 1, 2, 1), (16, 32, 64, 128), num_classes=5)
    model.stem.requires_grad_(not frozen)
    x = torch.randn(2, 3, 40, 48)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = []
    for network in (model, compiled):
        model.zero_grad()
        out = network(x)
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler looks at it itself
def test_torchs_compiler_trains_networks() -> None:
    """With code of its own, for each size anew: with sizes left open torch 2.14 fails, with timm's network too."""
    torch.manual_seed(0)
    model = ConvNeXt((1, 1, 1, 1), (16, 32, 64, 128), num_classes=5)
    compiled = torch.compile(model, dynamic=False)
    for n, side in ((2, 32), (3, 64), (4, 96)):
        x = torch.randn(n, 3, side, side)
        found = []
        for network in (model, compiled):
            model.zero_grad()
            network(x).square().sum().backward()
            found.append([p.grad.clone() for p in model.parameters()])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and says what it takes for fixed; OpenVINO does it
def test_a_traced_network_holds_stock_operators() -> None:
    """As OpenVINO traces it, with gradients on."""
    model = ConvNeXt((1, 1, 1, 1), (16, 32, 64, 128), num_classes=5, grn=True).eval()
    x = torch.randn(1, 3, 32, 32)
    traced = torch.jit.trace(model, x)
    torch.testing.assert_close(traced(x), model(x), rtol=1e-5, atol=1e-5)
