"""Copies of the mirror under a private name, with one module replaced: the real one is not touched."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import ddpm_ref
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array

PRIVATE = "copied_mirror"
PUBLIC = "ddpm_ref.torch"
PACKAGE = Path(ddpm_ref.__file__).parent
# The adapter is copied with the mirror, so that whatever it imports from the mirror comes from the copy.
ADAPTER = f"{PRIVATE}.adapter"


class _Redirected(ast.NodeTransformer):
    """Imports of the mirror become imports of the copy."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        node.module = _private(node.module or "")
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import:
        if any(alias.name.split(".")[:2] == PUBLIC.split(".") for alias in node.names):
            raise ValueError(f"{ast.unparse(node)}: a copy can redirect `from ... import` only")
        return node


def _private(name: str) -> str:
    return PRIVATE + name.removeprefix(PUBLIC) if name == PUBLIC or name.startswith(f"{PUBLIC}.") else name


def compiled(tree: ast.Module, name: str) -> CodeType:
    """The code of a module of the copy."""
    return compile(_Redirected().visit(tree), f"<{name}>", "exec", dont_inherit=True)


@cache
def _original(path: Path, name: str) -> CodeType:
    return compiled(ast.parse(path.read_text(encoding="utf-8")), name)


class _Finder:
    """Finds the modules of the copy among those of the mirror."""

    def __init__(self, replaced: dict[str, CodeType]):
        self.replaced = replaced

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Of a module of the copy, and of nothing else."""
        if name != PRIVATE and not name.startswith(f"{PRIVATE}."):
            return None
        return ModuleSpec(name, self, is_package=name == PRIVATE)

    def create_module(self, spec: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the code of the original, or what replaces it."""
        name = module.__name__
        if name == ADAPTER:
            path = PACKAGE / "conformance" / "torch_adapter.py"
        else:
            path = PACKAGE / "torch" / (f"{name.removeprefix(f'{PRIVATE}.')}.py" if name != PRIVATE else "__init__.py")
        exec(self.replaced.get(name) or _original(path, name), module.__dict__)


@lru_cache(maxsize=512)
def _exact(betas: bytes) -> NoiseSchedule:
    return NoiseSchedule.from_betas(memoryview(betas).cast("d").tolist())


@contextmanager
def copy_of_the_mirror(module: str = "", tree: ast.Module | None = None) -> Iterator[Any]:
    """An adapter of a copy of the mirror, in which one module has another syntax tree."""
    replaced = {} if tree is None else {f"{PRIVATE}.{module}": compiled(tree, f"{module}, mutated")}
    finder = _Finder(replaced)
    sys.meta_path.insert(0, finder)
    try:
        mirror = importlib.import_module(PRIVATE)
        adapter = importlib.import_module(ADAPTER)

        class Copy(adapter.TorchMirror):  # type: ignore[misc]
            name = "copy of ddpm_ref.torch"

            def schedule(self, betas: Array) -> Any:
                # The exact schedule is the same for every copy, and takes longer than everything else.
                return mirror.tables(_exact(betas.tobytes())).to(self.device)

        yield Copy()
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name == PRIVATE or name.startswith(f"{PRIVATE}.")]:
            del sys.modules[name]
