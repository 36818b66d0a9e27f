"""The other two front doors: a decorator and a base class, for the test suite of an implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import Adapter
from ddpm_ref.conformance.check import TIME_LIMIT
from ddpm_ref.conformance.expectations import Entries, expectations, expected
from ddpm_ref.conformance.judge import Court, missing
from ddpm_ref.conformance.report import describe
from ddpm_ref.conformance.verdict import ExpectedFailure, ExpectedViolation, Finding
from ddpm_ref.errors import LawViolation
from ddpm_ref.extras import require
from ddpm_ref.laws import REGISTRY
from ddpm_ref.laws.registry import Law
from ddpm_ref.typing import Real


@dataclass(frozen=True, eq=False)
class LawCheck:
    """One law to be held against one implementation, by calling it: raises `LawViolation` with the name of the bug."""

    law: Law
    court: Court
    claims: tuple[Claim, ...]
    max_examples: int
    seed: int | None
    expected: ExpectedFailure | None = None

    @property
    def missing(self) -> str:
        """The capabilities that the implementation lacks and the law needs, joined by blanks."""
        return " ".join(missing(self.law, self.court.adapter))

    def finding(self) -> Finding:
        """The verdict, with numbers."""
        from ddpm_ref.conformance.search import hold

        return hold(self.law, self.court, self.claims, self.max_examples, self.seed, self.expected)

    def __call__(self) -> Finding:
        """The finding if the law holds or does not apply; raises `ExpectedViolation` for one that was expected."""
        found = self.finding()
        if found.violations:
            error = LawViolation if found.unexpected else ExpectedViolation
            raise error("\n".join(describe(found)))
        return found

    def __str__(self) -> str:
        return self.law.id


def law_checks(
    adapter: Adapter | type,
    laws: str | Iterable[str] = "*",
    max_examples: int = 100,
    *,
    claims: Sequence[Claim] | None = None,
    seed: int | None = None,
    expected_failures: Entries | None = None,
    time_limit: Real | None = TIME_LIMIT,
) -> list[LawCheck]:
    """The laws as things to call, for any test framework; arguments as for `ddpm_ref.conformance.check`."""
    require("hypothesis", "conformance")
    found: Adapter = adapter() if isinstance(adapter, type) else adapter
    known = expectations(getattr(found, "expected_failures", None), expected_failures)
    court = Court(found, time_limit)
    return [
        LawCheck(law, court, tuple(claims or found.claims), max_examples, seed, expected(law, known))
        for law in REGISTRY.select(laws)
    ]


def parametrize(
    adapter: Adapter | type, laws: str | Iterable[str] = "*", max_examples: int = 100, **options: Any
) -> Any:
    """A decorator for pytest: the test is run once per law, with a ``law_check`` to call.

    Args:
        adapter: the implementation, or the class of its adapter.
        laws, max_examples, options: as for `ddpm_ref.conformance.check` (``claims``, ``seed``, ``expected_failures``,
            ``time_limit``).

    A law that does not apply is skipped, with the capabilities it needs; an expected failure is a strict xfail with its
    reason, so it fails when it stops failing, or when it fails in another way than the one that is bound.

    >>> from ddpm_ref.conformance import ReferenceAdapter, parametrize
    >>> @parametrize(ReferenceAdapter(), "forward/q_sample")
    ... def test_my_scheduler(law_check):
    ...     law_check()
    """
    pytest = require("pytest", "test")
    params = []
    for check in law_checks(adapter, laws, max_examples, **options):
        params.append(pytest.param(check, id=str(check), marks=marks(check, pytest)))
    return pytest.mark.parametrize("law_check", params)


def marks(check: LawCheck, pytest: Any) -> list[Any]:
    """How pytest is told that a law does not apply, or is expected to fail."""
    if check.missing:
        return [pytest.mark.skip(reason=f"not applicable: the adapter has no {check.missing}")]
    if check.expected:
        return [pytest.mark.xfail(reason=str(check.expected), raises=ExpectedViolation, strict=True)]
    return []


class LawSuite:
    """A base class for pytest: a subclass that names its ``adapter`` gets one test per law.

    ``laws``, ``max_examples``, ``claims``, ``seed``, ``expected_failures`` and ``time_limit`` may be named too, as for
    `ddpm_ref.conformance.check`; the test's name is ``test_law``.

    >>> from ddpm_ref.conformance import LawSuite, ReferenceAdapter
    >>> class TestMyScheduler(LawSuite):
    ...     adapter = ReferenceAdapter()
    ...     laws = "forward/*"
    """

    adapter: ClassVar[Any] = None
    laws: ClassVar[str | Iterable[str]] = "*"
    max_examples: ClassVar[int] = 100
    claims: ClassVar[Sequence[Claim] | None] = None
    seed: ClassVar[int | None] = None
    expected_failures: ClassVar[Entries | None] = None
    time_limit: ClassVar[float | None] = TIME_LIMIT

    def __init_subclass__(cls, **options: Any) -> None:
        """Give the subclass its tests."""
        super().__init_subclass__(**options)
        if cls.adapter is not None:
            names = ("claims", "seed", "expected_failures", "time_limit")
            settings = {name: getattr(cls, name) for name in names}
            decorate = parametrize(cls.adapter, cls.laws, cls.max_examples, **settings)

            def test_law(self: LawSuite, law_check: Callable[[], Finding]) -> None:
                """The implementation keeps the law."""
                law_check()

            cls.test_law = decorate(test_law)  # type: ignore[attr-defined]
