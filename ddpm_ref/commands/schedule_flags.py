"""The flags that name a schedule, the same for every command: those of `ScheduleArguments`, a length, or a file of betas."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.schedule_config import ScheduleArguments, ScheduleConfig, refuse_foreign


@dataclass(frozen=True, kw_only=True)
class _Length:
    T: int | None = None
    """How many levels; 1000 if left out."""
    betas: Path | None = None
    """The betas themselves: a JSON list of numbers or of hexadecimal floats such as "0x1.0p-7", or a .npy file."""


@dataclass(frozen=True, kw_only=True)
class ScheduleFlags(ScheduleArguments, _Length):
    """What is said of a schedule besides its kind."""

    def used(self) -> list[str]:
        """The flags given, as they are written."""
        values: dict[str, Any] = {"T": self.T, "betas": self.betas, **self.given()}
        return [_written(name) for name, value in values.items() if value is not None]

    def schedule(self, kind: str | None) -> ScheduleConfig | NoiseSchedule:
        """The schedule that the flags describe.

        Raises:
            ScheduleError: they describe none, or more than one.
        """
        if self.betas is not None:
            others = [flag for flag in self.used() if flag != "--betas"]
            if kind is not None or others:
                raise ScheduleError(
                    f"--betas gives the whole schedule; leave out {others[0] if others else f'the kind, {kind}'}"
                )
            return read_betas(self.betas)
        if kind is None:
            raise ScheduleError("no schedule is named; give a kind (linear, cosine, ...), or a file: --betas FILE")
        for name in self.given():
            refuse_foreign(kind, name, _written(name))
        return ScheduleConfig(kind, 1000 if self.T is None else self.T, **self.given())


NO_FLAGS = ScheduleFlags()


def build(schedule: ScheduleConfig | NoiseSchedule) -> NoiseSchedule:
    """The schedule, however it was described."""
    return schedule.build() if isinstance(schedule, ScheduleConfig) else schedule


def read_betas(path: Path) -> NoiseSchedule:
    """Anybody's betas, to the bit: a JSON list of numbers or of hexadecimal floats, or a NumPy file.

    Raises:
        ScheduleError: the file is missing, is neither, or holds no betas.
    """
    try:
        betas = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _listed(path)
    except OSError as error:
        raise ScheduleError(f"--betas {path} cannot be read ({(error.strerror or str(error)).lower()})") from error
    except (ValueError, OverflowError, EOFError, RecursionError) as error:
        raise ScheduleError(
            f"--betas {path} holds no list of betas ({error}); write a JSON list of numbers, or a .npy file"
        ) from error
    return NoiseSchedule.from_betas(betas)


def _listed(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = json.loads(path.read_bytes())
    if not isinstance(values, list):
        raise ValueError("its JSON is no list")
    return np.array([_number(value, t) for t, value in enumerate(values, start=1)], dtype=np.float64)


def _number(value: Any, t: int) -> float:
    # Without its 0x, "0.1" would be read as a sixteenth.
    if isinstance(value, str) and "0x" in value.lower():
        return float.fromhex(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"item {t} is {value!r}")
    return float(value)


def _written(name: str) -> str:
    return "--" + name.replace("_", "-")
