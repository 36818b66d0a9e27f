"""Questions that an adapter does not serve: it answers ``NotImplemented``, and what is made of that is not judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from ddpm_ref.conformance.adapters import Adapter


class Declined(Exception):
    """Nothing of an answer is left to be judged."""


class Unserved:
    """Stands for an answer that was not given: whatever a law makes of it is not given either."""

    # NumPy and PyTorch leave operations with it to the operators below.
    __array_ufunc__ = None

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Unserved:
        return UNSERVED

    def __getattr__(self, name: str) -> Unserved:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self) -> NoReturn:
        raise Declined

    def _same(self, *_: Any, **__: Any) -> Unserved:
        return self

    __call__ = __getitem__ = __neg__ = __abs__ = _same
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = (
        _same
    )


UNSERVED = Unserved()


class Serving:
    """An adapter during one question: knows whether it has declined a part of it, and whether it raised an exception itself."""

    def __init__(self, adapter: Adapter):
        self._adapter, self.declined, self.raised = adapter, False, False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        return partial(self._asked, found) if callable(found) else found

    def _asked(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            answer = method(*arguments, **options)
        except BaseException:
            self.raised = True
            raise
        return tuple(map(self._marked, answer)) if type(answer) is tuple else self._marked(answer)

    def _marked(self, answer: Any) -> Any:
        if answer is not NotImplemented:
            return answer
        self.declined = True
        return UNSERVED
