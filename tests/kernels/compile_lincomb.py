"""Run in a process of its own, without Triton's interpreter: compiles the lincomb kernel for GPUs that are not here.

Prints one JSON object per variant: the registers, the spilled bytes and the widths of the global memory accesses.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ddpm_ref.kernels.lincomb import BLOCK, lincomb_kernel


def compile_lincomb(capability: int, dtype: str, terms: int, rows: int) -> dict[str, object]:
    """Compile as for a launch on aligned data: ``terms`` tensors of ``dtype``, per-sample float32 coefficients."""
    pointer = f"*{dtype}"
    constants = {
        **{(3, i): 1 for i in range(terms)},
        (6,): rows,
        (7,): BLOCK // rows,
        (8,): tl.float64 if dtype == "fp64" else tl.float32,
    }
    aligned = [(0,), *[(1, i) for i in range(terms)], *[(2, i) for i in range(terms)], (5,)]
    source = ASTSource(
        lincomb_kernel,
        signature={
            "out": pointer,
            "tensors": (pointer,) * terms,
            "coefficients": ("*fp32",) * terms,
            "strides": ("constexpr",) * terms,
            "rows": "i32",
            "columns": "i32",
            "ROWS": "constexpr",
            "BLOCK": "constexpr",
            "COMPUTE": "constexpr",
        },
        constexprs=constants,
        attrs={path: [["tt.divisibility", 16]] for path in aligned},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    accesses = [
        (kind, int(width or 1) * int(bits) // 8)
        for kind, width, bits in re.findall(r"\b(ld|st)\.global[\w:.]*?(?:\.v(\d))?\.[bfu](\d+)", compiled.asm["ptx"])
    ]
    return {
        "capability": capability,
        "loads": [size for kind, size in accesses if kind == "ld"],
        "stores": [size for kind, size in accesses if kind == "st"],
        "threads": 32 * compiled.metadata.num_warps,
        **resources(compiled.asm["cubin"]),
    }


def resources(cubin: bytes) -> dict[str, int]:
    """What ``cuobjdump -res-usage``, shipped with Triton, says: registers, stack and local (spill) bytes per thread."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}


if __name__ == "__main__":
    for request in sys.argv[1:]:
        given_capability, given_dtype, given_terms, given_rows = request.split(",")
        print(json.dumps(compile_lincomb(int(given_capability), given_dtype, int(given_terms), int(given_rows))))
