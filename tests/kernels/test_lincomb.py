"""The linear combination: the plain function, the custom op, and the Triton kernel in the interpreter and compiled.

The interpreter shows indexing and arithmetic, not a GPU's rounding or speed.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_ref import kernels
from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.errors import DdpmRefError, MissingExtraError, PrecisionError, ShapeError
from ddpm_ref.kernels import lincomb as module
from ddpm_ref.kernels.lincomb import MAX_TERMS, launch, lincomb_op
from ddpm_ref.torch.lincomb import lincomb

Combine = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
FP32, FP64, FP16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
CLAIMS = {FP64: Claim("fp64"), FP32: Claim("fp32"), FP16: Claim("fp16", "fp32"), BF16: Claim("bf16", "fp32")}


def interpreted(coefficients: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """The kernel itself, with tiles as large as the interpreter likes them."""
    out = torch.full_like(tensors[0], math.nan, memory_format=torch.contiguous_format)
    launch(out, coefficients, tensors, block=16384)
    return out


@pytest.fixture(params=["eager", "op: kernel", "op: fallback"])
def combine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Combine:
    """Every way to the same result that this machine has."""
    if request.param == "eager":
        return lincomb
    assert module.INTERPRETED, "set TRITON_INTERPRET=1 before the first import of triton"
    monkeypatch.setattr(module, "INTERPRETED", request.param == "op: kernel")
    return lambda coefficients, tensors: lincomb_op(list(coefficients), list(tensors))


def draw(
    terms: int, shape: tuple[int, ...], dtype: torch.dtype, ranks: Sequence[int] = (1,), seed: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    """Float64 coefficients of the given ranks, and tensors of many magnitudes, half of whose sums nearly cancel."""
    generator = torch.Generator().manual_seed(seed)
    coefficients = [torch.randn(shape[: ranks[i % len(ranks)]], generator=generator, dtype=FP64) for i in range(terms)]
    tensors = [
        torch.randn(shape, generator=generator, dtype=FP64)
        .mul(torch.exp2(torch.randint(-3, 4, shape, generator=generator)))
        .to(dtype)
        for _ in range(terms)
    ]
    if terms > 1:
        rest = sum(expand(c, v) * v.to(FP64) for c, v in zip(coefficients[:-1], tensors[:-1], strict=True))
        cancelling = -rest / expand(coefficients[-1], tensors[-1])
        half = torch.rand(shape, generator=generator) < 0.5
        tensors[-1] = torch.where(half & (cancelling.abs() < 1000), cancelling, tensors[-1].to(FP64)).to(dtype)
    return coefficients, tensors


def expand(coefficient: Tensor, like: Tensor) -> Tensor:
    return coefficient.to(FP64).reshape(coefficient.shape + (1,) * (like.ndim - coefficient.ndim)).expand(like.shape)


def expected(coefficients: Sequence[Tensor], tensors: Sequence[Tensor]) -> Expected:
    """The sum in double-double, with k = m + 1 and S = sum |c v|."""
    products = [
        DoubleDouble.of(expand(c, v).detach().flatten().numpy()) * v.detach().to(FP64).flatten().numpy()
        for c, v in zip(coefficients, tensors, strict=True)
    ]
    value, scale = products[0], np.abs(products[0].high)
    for product in products[1:]:
        value, scale = value + product, scale + np.abs(product.high)
    return Expected(value, scale, len(products) + 1)


def worst(got: Tensor, coefficients: Sequence[Tensor], tensors: Sequence[Tensor]) -> float:
    """Worst error over bound, under the claim that belongs to the dtype."""
    assert got.dtype == tensors[0].dtype
    assert got.shape == tensors[0].shape
    ratios = expected(coefficients, tensors).error_over_bound(
        got.detach().to(FP64).flatten().numpy(), CLAIMS[got.dtype]
    )
    return float(ratios.max(initial=0.0))


@pytest.mark.parametrize("dtype", CLAIMS)
@pytest.mark.parametrize("terms", range(1, MAX_TERMS + 1))
def test_keeps_its_bound_for_every_length(terms: int, dtype: torch.dtype) -> None:
    coefficients, tensors = draw(terms, (64, 257), dtype)
    assert worst(lincomb(coefficients, tensors), coefficients, tensors) <= 1
    if dtype == BF16:
        # The interpreter truncates bf16 where hardware rounds: the same float32 number, so neighbours at most.
        exact = [v.to(FP32) for v in tensors]
        got, wide = interpreted(coefficients, tensors), interpreted(coefficients, exact)
        assert worst(wide, coefficients, exact) <= 1
        steps = got.view(torch.int16).int() - wide.to(BF16).view(torch.int16).int()
        assert steps.abs().max() <= 1
    else:
        assert worst(interpreted(coefficients, tensors), coefficients, tensors) <= 1


@pytest.mark.parametrize("dtype", [FP32, FP16])
def test_the_bound_is_sharp(dtype: torch.dtype) -> None:
    # rule: NUMERICS section 6, sharpness: worst ratio at least 0.3 over bulk draws
    coefficients, tensors = draw(2, (1000, 300), dtype, seed=1)
    for combine in (lincomb, interpreted):
        assert 0.3 <= worst(combine(coefficients, tensors), coefficients, tensors) <= 1


def test_the_bound_bites() -> None:
    coefficients, tensors = draw(2, (64, 257), FP32)
    assert worst(lincomb([c.to(BF16).to(FP32) for c in coefficients], tensors), coefficients, tensors) > 1
    assert worst(lincomb([c.roll(1) for c in coefficients], tensors), coefficients, tensors) > 1


@pytest.mark.parametrize(
    ("shape", "ranks"),
    [
        ((), (0,)),
        ((1,), (1, 0)),
        ((7,), (0,)),
        ((7,), (1,)),
        ((1000, 3), (1,)),
        ((3, 1025), (1, 0, 2)),
        ((2, 3, 5, 7), (0, 1, 2)),
        ((2, 3, 5, 7), (4, 3)),
        ((0, 4), (1, 0)),
        ((4, 0, 3), (1, 2)),
    ],
)
def test_shapes_and_ranks_of_coefficients(combine: Combine, shape: tuple[int, ...], ranks: tuple[int, ...]) -> None:
    coefficients, tensors = draw(3, shape, FP32, ranks)
    coefficients[1] = coefficients[1].to(FP32)
    assert worst(combine(coefficients, tensors), coefficients, tensors) <= 1


@pytest.mark.parametrize("dtype", [FP64, FP32, FP16])
def test_non_contiguous(combine: Combine, dtype: torch.dtype) -> None:
    coefficients, tensors = draw(3, (6, 5, 4), dtype)
    views = [
        tensors[0].permute(2, 1, 0),
        tensors[1].flip(0).permute(2, 1, 0),
        tensors[2][:1].expand(6, 5, 4).permute(2, 1, 0),
    ]
    columns = [c.expand(4, 6)[:, 0] if c.ndim == 0 else c[:4].repeat_interleave(2)[::2] for c in coefficients]
    assert not any(v.is_contiguous() for v in views)
    assert worst(combine(columns, views), columns, views) <= 1


def test_any_number_of_terms() -> None:
    coefficients, tensors = draw(9, (5, 11), FP32)
    assert worst(lincomb(coefficients, tensors), coefficients, tensors) <= 1


def test_a_single_unit_term_is_a_copy(combine: Combine) -> None:
    x = torch.tensor([0.0, -0.0, math.inf, 1.5])
    z = combine([torch.tensor(1.0)], [x])
    assert torch.equal(z, x)
    assert z.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("dtype", CLAIMS)
@pytest.mark.parametrize(("rows", "columns", "block"), [(1, 1, 16), (3, 5, 16), (5, 33, 16), (4, 64, 1024), (9, 3, 8)])
def test_writes_nothing_beside_its_output(dtype: torch.dtype, rows: int, columns: int, block: int) -> None:
    guard, size = 64, rows * columns
    buffer = torch.full((guard + size + guard,), 12345.0).to(dtype)
    before = buffer.clone()
    out = buffer[guard : guard + size].view(rows, columns)
    coefficients, tensors = draw(2, (rows, columns), dtype)
    # NaN around the inputs: an element read from beyond the rows would reach the output.
    inputs = [torch.full((guard + size + guard,), math.nan).to(dtype) for _ in tensors]
    for padded, tensor in zip(inputs, tensors, strict=True):
        padded[guard : guard + size] = tensor.flatten()
    launch(out, coefficients, [p[guard : guard + size].view(rows, columns) for p in inputs], block=block)
    assert torch.equal(buffer[:guard], before[:guard])
    assert torch.equal(buffer[guard + size :], before[guard + size :])
    assert torch.equal(out, interpreted(coefficients, tensors))


def test_gradients(combine: Combine) -> None:
    coefficients, tensors = draw(3, (2, 2, 2), FP64, ranks=(1, 0, 2))
    inputs = [x.requires_grad_() for x in (*coefficients, *tensors)]

    def function(*flat: Tensor) -> Tensor:
        return combine(flat[:3], flat[3:])

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [FP32, FP16])
def test_gradients_keep_their_bounds(combine: Combine, dtype: torch.dtype) -> None:
    coefficients, tensors = draw(2, (8, 100), dtype, ranks=(1, 0))
    coefficients = [c.to(FP32).requires_grad_() for c in coefficients]
    tensors = [v.requires_grad_() for v in tensors]
    gradient = draw(1, (8, 100), dtype, seed=2)[1][0]
    combine(coefficients, tensors).backward(gradient)
    for c, v in zip(coefficients, tensors, strict=True):
        assert v.grad is not None
        assert c.grad is not None
        assert worst(v.grad, [c], [gradient]) <= 1
        served = (v.detach().to(FP64) * gradient.to(FP64)).reshape(c.numel(), -1).numpy()
        depth = math.ceil(math.log2(served.shape[-1])) + 32  # rule: sums, NUMERICS section 5; one more for the products
        law = Expected(DoubleDouble.of(served.sum(-1)), np.abs(served).sum(-1), depth + 1)
        assert law.error_over_bound(c.grad.to(FP64).flatten().numpy(), Claim("fp32")).max() <= 1


def test_only_the_gradients_asked_for(combine: Combine) -> None:
    coefficients, tensors = draw(2, (3, 4), FP32)
    tensors[1].requires_grad_()
    combine(coefficients, tensors).sum().backward()
    assert tensors[1].grad is not None
    assert all(x.grad is None for x in (*coefficients, tensors[0]))


@pytest.mark.parametrize("dtype", CLAIMS)
def test_the_op_is_registered_properly(dtype: torch.dtype) -> None:
    coefficients, tensors = draw(2, (2, 3), dtype, ranks=(1, 0))
    torch.library.opcheck(lincomb_op, (coefficients, tensors))
    if dtype in (FP32, FP64):
        torch.library.opcheck(lincomb_op, (coefficients, [v.requires_grad_() for v in tensors]))


class Recorder(TorchDispatchMode):
    """Remembers the names of the ops that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("device", "terms", "fused"), [("cuda", 5, True), ("cuda", 6, False), ("cpu", 2, False)])
def test_cuda_tensors_go_to_the_kernel(device: str, terms: int, fused: bool) -> None:
    with FakeTensorMode(), Recorder() as recorder:
        coefficients = [torch.empty((), device=device) for _ in range(terms)]
        result = lincomb(coefficients, [torch.empty(2, 3, device=device, dtype=BF16) for _ in range(terms)])
    assert (result.device.type, result.shape, result.dtype) == (device, (2, 3), BF16)
    assert ("ddpm_ref.lincomb.default" in recorder.names) is fused


ONE, X = torch.tensor(1.0), torch.ones(2, 3)
WRONG: list[tuple[Any, Any, type[DdpmRefError], str]] = [
    ([], [], ShapeError, "0 coefficients and 0 tensors.*at least one"),
    ([ONE], [X, X], ShapeError, "1 coefficients and 2 tensors.*write lincomb"),
    ([ONE, ONE], [X, X[:1]], ShapeError, r"shape \(1, 3\).*\(2, 3\).*expand_as"),
    ([torch.ones(3)], [X], ShapeError, r"shape \(3,\).*leading axes.*flatten"),
    ([torch.ones(2, 1)], [X], ShapeError, r"shape \(2, 1\).*leading axes.*flatten"),
    ([torch.ones(2, 3, 1)], [X], ShapeError, "leading axes"),
    ([0.5], [X], PrecisionError, "0.5, a float.*write torch.tensor"),
    ([ONE, 2], [X, X], PrecisionError, "2, an? int.*write torch.tensor"),
    ([ONE.to(BF16)], [X], PrecisionError, "torch.bfloat16.*float64 table"),
    ([torch.tensor(1)], [X], PrecisionError, "torch.int64.*allowed are torch.float32, torch.float64"),
    ([ONE, ONE], [X, X.to(FP16)], PrecisionError, r"torch.float16.*torch.float32.*write v.to\(torch.float32\)"),
    ([ONE], [X.to(torch.int32)], PrecisionError, "torch.int32; allowed are"),
    ([ONE], [X.to(torch.complex64)], PrecisionError, "torch.complex64; allowed are"),
    ([ONE, ONE], [X, X.to("meta")], PrecisionError, r"on meta.*on cpu.*write v.to\('cpu'\)"),
    ([ONE.to("meta")], [X], PrecisionError, r"on meta.*on cpu.*write c.to\('cpu'\)"),
]


@pytest.mark.parametrize(("coefficients", "tensors", "error", "message"), WRONG)
def test_bad_input_is_named(coefficients: Any, tensors: Any, error: type[DdpmRefError], message: str) -> None:
    with pytest.raises(error, match=message):
        lincomb(coefficients, tensors)


def test_the_kernel_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShapeError, match=r"6 terms.*1 to 5"):
        launch(X.clone(), [ONE] * 6, [X] * 6)
    with pytest.raises(ShapeError, match="contiguous output"):
        launch(X.clone().t(), [ONE], [X.t()])
    monkeypatch.setattr(module, "INTERPRETED", False)
    with pytest.raises(PrecisionError, match=r"on cpu.*TRITON_INTERPRET"):
        launch(X.clone(), [ONE], [X])
    monkeypatch.setattr(kernels, "HAS_TRITON", False)
    with pytest.raises(MissingExtraError, match=r"pip install 'ddpm-ref\[triton\]'"):
        launch(X.clone(), [ONE], [X])


def outside(*arguments: str) -> str:
    """What a fresh interpreter prints, without Triton's interpreter and without the type checks of the tests.

    beartype's checks of containers draw random numbers, which torch.compile cannot trace with ``fullgraph=True``.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


WITHOUT_TRITON = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else real(name, *rest)
import torch
from ddpm_ref.errors import MissingExtraError
from ddpm_ref.kernels.lincomb import launch, lincomb_op
assert "triton" not in sys.modules
try:
    launch(torch.empty(2, 3), [torch.tensor(1.0)], [torch.ones(2, 3)])
except MissingExtraError as error:
    assert "pip install" in str(error)
else:
    raise AssertionError("the kernel ran without triton")
importlib.util.find_spec = real
"""


FULLGRAPH = """
import sys, torch
from ddpm_ref.kernels.lincomb import lincomb_op
from ddpm_ref.torch.lincomb import lincomb
c = [torch.rand(4, requires_grad=True), torch.rand((), dtype=torch.float64, requires_grad=True)]
for case in sys.argv[2:]:
    name, dtype = case.split(",")
    v = [torch.randn(4, 3, 8, dtype=getattr(torch, dtype), requires_grad=True) for _ in c]
    function = {"lincomb": lincomb, "lincomb_op": lincomb_op}[name]
    z, plain = torch.compile(function, fullgraph=True, backend=sys.argv[1])(c, v), function(c, v)
    assert z.dtype == plain.dtype and z.shape == plain.shape
    scale = sum((ci.double().reshape(-1, 1, 1) * vi.double()).abs() for ci, vi in zip(c, v))
    print(((z.double() - plain.double()).abs() / scale).max().item())
    for grad, x in zip(torch.autograd.grad(z.sum(), [*c, *v]), [*c, *v]):
        assert grad.shape == x.shape and grad.dtype == x.dtype
"""


def assert_one_graph(script: str, backend: str, *cases: str) -> None:
    differences = outside("-c", script, backend, *cases).split()
    for case, difference in zip(cases, differences, strict=True):
        u = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8}[case.split(",")[1]]
        # rule: NUMERICS section 1, twice: two results, each within 3 + 1 roundings of the truth in the coarser format
        assert float(difference) <= 2 * 4 * u


@pytest.mark.full
def test_without_triton_only_the_kernel_is_missing_and_graphs_have_no_breaks() -> None:
    assert_one_graph(WITHOUT_TRITON + FULLGRAPH, "aot_eager", "lincomb,bfloat16")


@pytest.mark.full
def test_one_graph_through_inductor() -> None:
    names, dtypes = ("lincomb", "lincomb_op"), ("float32", "float64", "bfloat16")
    assert_one_graph(FULLGRAPH, "inductor", *(f"{name},{dtype}" for name in names for dtype in dtypes))


def compiled(*requests: str) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("compile_lincomb.py")
    return [json.loads(line) for line in outside(str(script), *requests).splitlines()]


def assert_minimal(report: dict[str, Any], itemsize: int, terms: int) -> None:
    """No spills; every tensor moves once, 16 bytes at a time; the only other loads are the coefficients."""
    assert report["LOCAL"] == 0
    assert report["STACK"] == 0
    per_thread = module.BLOCK // report["threads"] * itemsize
    assert sum(report["stores"]) == per_thread
    assert set(report["stores"]) == {16}
    assert sum(size for size in report["loads"] if size == 16) == terms * per_thread
    assert all(size == 4 for size in report["loads"] if size != 16)


def test_compiles_for_gpus_without_spills_in_16_byte_accesses() -> None:
    ampere, hopper = compiled("80,fp32,2,1", "90,fp32,2,1")
    for report, capability in ((ampere, 80), (hopper, 90)):
        assert report["capability"] == capability
        assert_minimal(report, itemsize=4, terms=2)


@pytest.mark.full
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("dtype", "itemsize"), [("fp64", 8), ("fp32", 4), ("fp16", 2), ("bf16", 2)])
def test_every_length_compiles_for_gpus(capability: int, dtype: str, itemsize: int) -> None:
    tiles = [(terms, rows) for terms in range(1, MAX_TERMS + 1) for rows in (1, 16)]
    reports = compiled(*(f"{capability},{dtype},{terms},{rows}" for terms, rows in tiles))
    for report, (terms, _) in zip(reports, tiles, strict=True):
        assert_minimal(report, itemsize, terms)
