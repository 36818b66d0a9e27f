"""Proofs of tables: each entry is enclosed in balls of growing precision until it is proved or refuted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flint import arb, ctx

from ddpm_ref.certificate import named, rounding, tables
from ddpm_ref.certificate.file import Certificate, Refutation, TableProof, Versions
from ddpm_ref.errors import CertificateError, DdpmRefError, RangeError
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory
from ddpm_ref.schedule_config import ScheduleConfig

FIRST_BITS, MAX_BITS = 128, 2**16

Pair = tuple[int, int]
Judge = Callable[[float, arb], bool | None]


def rounded_once(got: float, ball: arb) -> bool | None:
    """Whether a table holds the float64 nearest to the number in the ball, to the bit; None if the ball is too wide."""
    value = rounding.decided(ball)
    return None if value is None else got.hex() == value.hex()


CLAIMS: dict[str, Judge] = {"nearest": rounded_once, "one ulp": rounding.within_one_ulp}


@dataclass(eq=False)
class Table:
    """One table on trial: what it claims, what it holds, and what has been found so far."""

    name: str
    claim: str
    entries: list[tuple[Pair, float]]
    bits: int = 0
    proved: int = 0
    refuted: list[Refutation] = field(default_factory=list)

    def judge(self, pair: Pair, got: float, ball: arb) -> bool:
        """Whether the entry is settled, one way or the other."""
        verdict = CLAIMS[self.claim](got, ball)
        if verdict is None:
            return False
        self.bits = max(self.bits, ctx.prec)
        if verdict:
            self.proved += 1
        else:
            value = rounding.decided(ball)
            proved = "at least one ulp away" if value is None else value.hex()
            self.refuted.append(Refutation(self.name, *pair, got=got.hex(), proved=proved))
        return True

    def result(self) -> TableProof:
        """The line of the certificate."""
        digest = hashlib.sha256(" ".join(got.hex() for _, got in self.entries).encode()).hexdigest()
        unproved = len(self.entries) - self.proved - len(self.refuted)
        return TableProof(
            self.name, self.claim, len(self.entries), self.proved, len(self.refuted), unproved, self.bits, digest
        )


def certify(
    schedule: ScheduleConfig | NoiseSchedule,
    levels: tuple[int, ...] = (),
    max_bits: int = MAX_BITS,
) -> Certificate:
    """Prove the tables of a schedule, of all its pairs ``(t, t - 1)``, and of the steps of a trajectory.

    Args:
        schedule: a named schedule, whose betas are proved as well, or one of given betas.
        levels: of a trajectory, strictly descending and ending with 0; empty for none.
        max_bits: the precision at which an undecided entry is left unproved, at least 2.

    Returns:
        what was proved, refuted and left unproved.

    Raises:
        ScheduleError: the arguments define no schedule, or the levels no trajectory.
        LevelError: the trajectory starts above T.
        RangeError: ``max_bits`` is no whole number >= 2.

    >>> from ddpm_ref import NoiseSchedule
    >>> certify(NoiseSchedule.from_betas([0.5, 0.25])).verdict
    'proved'
    """
    if isinstance(schedule, ScheduleConfig):
        return _prove(schedule.build(), schedule, levels, max_bits)
    return _prove(schedule, None, levels, max_bits)


def certify_again(certificate: Certificate) -> Certificate:
    """Redo the proof of a certificate from its betas, and compare all it says with what is found.

    Returns:
        the new certificate.

    Raises:
        CertificateError: its betas define no schedule, or something in it is not what the proof finds.
    """
    schedule = certificate.rebuilt()
    try:
        found = _prove(schedule, certificate.schedule, certificate.levels, certificate.max_bits)
    except DdpmRefError as error:
        raise CertificateError(f"what the certificate says cannot be proved again: {error}") from error
    certificate.compare(found)
    return found


def _prove(
    schedule: NoiseSchedule, config: ScheduleConfig | None, levels: tuple[int, ...], max_bits: int
) -> Certificate:
    if isinstance(max_bits, bool) or not isinstance(max_bits, int) or max_bits < 2:
        raise RangeError(f"max_bits = {max_bits!r} must be a whole number of bits, at least 2 ({MAX_BITS} is usual)")
    betas = schedule.beta[1:].tolist()
    done = _named_betas(config, betas, max_bits) if config else []
    done += _level_tables(schedule, betas, max_bits)
    done += _pair_tables(schedule, betas, [(t, t - 1) for t in range(1, schedule.T + 1)], "between(t, t-1)", max_bits)
    if levels:
        done += _pair_tables(schedule, betas, list(Trajectory(levels).pairs()), "trajectory", max_bits)
    return Certificate(
        schedule=config,
        betas=tuple(map(float.hex, betas)),
        schedule_digest=schedule.digest,
        levels=levels,
        max_bits=max_bits,
        tables=tuple(table.result() for table in done),
        refutations=tuple(found for table in done for found in table.refuted),
        made_with=Versions.here(),
    )


def _level_tables(schedule: NoiseSchedule, betas: list[float], max_bits: int) -> list[Table]:
    formulas = tables.LEVELS | tables.LOGARITHMS
    on_trial = {
        name: Table(
            name, "one ulp" if name in tables.LOGARITHMS else "nearest", _levels(getattr(schedule, name).tolist())
        )
        for name in formulas
    }
    for name, table in on_trial.items():
        _stated(table, tables.LEVEL_0[name])
    _settle(list(on_trial.values()), list(formulas.values()), betas, max_bits)
    return list(on_trial.values())


def _levels(values: list[float]) -> list[tuple[Pair, float]]:
    return [((t, max(t - 1, 0)), value) for t, value in enumerate(values)]


def _stated(table: Table, value: float) -> None:
    # Level 0 needs no ball: it holds what is stated, to the bit.
    pair, got = table.entries[0]
    if got.hex() == value.hex():
        table.proved += 1
    else:
        table.refuted.append(Refutation(table.name, *pair, got=got.hex(), proved=value.hex()))


def _pair_tables(
    schedule: NoiseSchedule, betas: list[float], pairs: list[Pair], where: str, max_bits: int
) -> list[Table]:
    step = schedule.between([t for t, _ in pairs], [s for _, s in pairs])
    on_trial = [
        Table(f"{where}.{name}", "nearest", list(zip(pairs, getattr(step, name).tolist(), strict=True)))
        for name in tables.PAIRS
    ]
    _settle(on_trial, list(tables.PAIRS.values()), betas, max_bits)
    return on_trial


def _settle(on_trial: list[Table], formulas: list[tables.Formula], betas: list[float], max_bits: int) -> None:
    """Judge tables over the same pairs, each by its formula, until every entry is settled or the bits are used up."""
    exact = list(map(rounding.exactly, betas))
    pending: dict[Pair, list[tuple[Table, tables.Formula, float]]] = {}
    for table, formula in zip(on_trial, formulas, strict=True):
        for pair, got in table.entries:
            if pair[0]:
                pending.setdefault(pair, []).append((table, formula, got))
    for bits in _precisions(max_bits):
        with ctx.workprec(bits):
            for pair, step in zip(list(pending), tables.steps(exact, pending), strict=True):
                left = [ask for ask in pending[pair] if not ask[0].judge(pair, ask[2], ask[1](step))]
                if left:
                    pending[pair] = left
                else:
                    del pending[pair]
        if not pending:
            return


def _named_betas(config: ScheduleConfig, betas: list[float], max_bits: int) -> list[Table]:
    """The betas themselves, against the formula of the named schedule rounded once."""
    formula = named.betas(config.kind, config.T, config.arguments())
    table = Table("beta of the formula", "nearest", [((t, t - 1), beta) for t, beta in enumerate(betas, start=1)])
    if config.zero_terminal_snr:
        before = _rounded(formula, config.T, max_bits)
        if None in before:
            return [table]
        formula = named.zero_terminal_snr([beta for beta in before if beta is not None])
    pending = list(table.entries)
    for bits in _precisions(max_bits):
        with ctx.workprec(bits):
            pending = [(pair, got) for pair, got in pending if not table.judge(pair, got, formula(pair[0]))]
        if not pending:
            break
    return [table]


def _rounded(formula: named.Beta, T: int, max_bits: int) -> list[float | None]:
    found: list[float | None] = [None] * T
    for bits in _precisions(max_bits):
        with ctx.workprec(bits):
            found = [rounding.decided(formula(t)) if beta is None else beta for t, beta in enumerate(found, start=1)]
    return found


def _precisions(max_bits: int) -> Iterator[int]:
    bits = FIRST_BITS
    while bits < max_bits:
        yield bits
        bits *= 2
    yield max_bits
