"""``ddpm-ref study``, as a user meets it, and the page that prints its figures."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import command_line
import numpy as np
import pytest

from ddpm_ref import linear_schedule, study
from ddpm_ref.errors import RangeError
from ddpm_ref.reference.analytic import optimal_trajectory, sigma_hat_squared_from_residual
from ddpm_ref.reference.named_schedules import zero_terminal_snr
from ddpm_ref.reference.oracle import Finite, Gaussian, sample_density, sample_moments
from ddpm_ref.reference.plan import analytic, ancestral, ddim

PAGE = Path(__file__).parent.parent / "docs" / "samplers.md"


def run(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, output and errors of a study."""
    return command_line.run(f"study {arguments}", capsys)


def test_a_table_in_nats(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("gaussian --steps 10 50 --spacings even", capsys)
    assert status == 0
    title, head, *rows = out.splitlines()
    assert title.startswith("KL(samples || data) in nats: normal data, mean 0.3")
    assert head.split() == ["sampler", "spacing", "10", "50"]
    assert [row.split()[0] for row in rows] == ["posterior", "beta", "ddim-0", "ddim-0.5"]
    schedule, data = linear_schedule(1000), Gaussian(0.3, 0.25)
    assert rows[0].split()[2] == f"{sample_moments(ancestral(schedule, schedule.trajectory(10)), data).kl():.4f}"


def test_json_says_everything_and_the_picture_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "kl.png"
    status, out, _ = run(f"mixture --samplers ddim-0.3 beta --steps 2 5 --plot {picture} --json", capsys)
    found = json.loads(out)
    assert status == 0
    assert found["complete"] is True
    assert len(found["cells"]) == 8
    schedule = linear_schedule(1000)
    law = sample_density(ddim(schedule, schedule.trajectory(5), 0.3, form="x0"), study.load("mixture").data)
    (cell,) = [c for c in found["cells"] if (c["sampler"], c["spacing"], c["steps"]) == ("ddim-0.3", "even", 5)]
    assert (cell["kl"], cell["total_variation"]) == (law.kl(), law.total_variation)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_digits_as_points_and_as_a_normal_law(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("digits --samplers posterior --steps 2 4 --spacings even --T 50", capsys)
    assert status == 0
    assert "17 grey levels and their counts, blurred by 0.03125" in out
    status, out, _ = run("digits-gaussian --samplers posterior ddim-1 --steps 4 --spacings even --json", capsys)
    posterior, same = json.loads(out)["cells"]
    assert posterior["kl"] == pytest.approx(same["kl"], rel=1e-12)  # NUMERICS 4, chains: one law, 4 steps, 64 numbers
    points = study.load("digits")
    assert isinstance(points.data, Finite)
    assert points.data.weights.sum() == pytest.approx(1, abs=8 * 2**-53)  # NUMERICS 5, sums: 17 weights
    assert study.load("digits-gaussian").data.d == 64


def test_schedules_starts_and_blur(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "gaussian --samplers ddim-0 --steps 5 --spacings trailing --json --kind cosine --T 100 --zero-terminal-snr"
    )
    at_rest = json.loads(run(arguments + " --first-state marginal", capsys)[1])["cells"][0]["kl"]
    status, out, _ = run(arguments + " --blur 0.1", capsys)
    blurred = json.loads(out)
    assert status == 0
    assert blurred["blur"] == 0.1
    assert blurred["cells"][0]["kl"] < at_rest


def test_an_interrupt_keeps_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study.run

    def impatient(*arguments):
        cells = whole(*arguments)
        yield next(cells)
        yield next(cells)
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run", impatient)
    picture = tmp_path / "kl.png"
    status, out, err = run(f"gaussian --samplers beta --steps 2 4 8 --spacings even --plot {picture}", capsys)
    assert status == 130
    assert "2 of 3 are done and kept" in err
    assert out.splitlines()[1].split() == ["sampler", "spacing", "2", "4"]
    assert picture.exists()
    status, out, _ = run("gaussian --samplers beta --steps 2 4 8 --spacings even --json", capsys)
    assert (status, json.loads(out)["complete"]) == (130, False)


def test_long_studies_speak(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 10)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    _, _, err = run("gaussian --samplers beta --steps 2 4 --spacings even", capsys)
    assert re.findall(r"study: (\d) of 2 after \d+ s", err) == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("gaussian --samplers euler", "sampler 'euler' is not known; write posterior, beta, analytic, or ddim-ETA"),
        ("gaussian --samplers ddim-much", "ddim-much"),
        ("gaussian --samplers analytic-2", "eta = 2.0"),
        ("gaussian --spacings optimal --steps 1", "K = 1; an optimal trajectory visits from 2 to 1000 levels"),
        ("gaussian --samplers ddim-1.5", "eta = 1.5"),
        ("gaussian --steps 2000", "steps = 2000"),
        ("gaussian --spacings log", "spacing 'log'"),
        ("digits --blur 0", "> 0 for points"),
        ("mixture --blur -1", "standard deviation >= 0"),
        ("gaussian --plot kl.pdf", "a name ending in .png"),
        ("gaussian --plot no/such/folder/kl.png", "does not exist"),
        ("gaussian --betas no/such/file.json", "cannot be read"),
        ("gaussian --kind cosine --betas betas.json", "leave out the kind, cosine"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(arguments, capsys)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not out


def test_the_optimal_variance_and_trajectory_depend_on_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "mixture --samplers analytic posterior --steps 4 --spacings even optimal --T 60 --json"
    cells = json.loads(run(arguments, capsys)[1])["cells"]
    kl = {(cell["sampler"], cell["spacing"]): cell["kl"] for cell in cells}
    assert kl["analytic", "optimal"] < kl["analytic", "even"] < kl["posterior", "even"]
    schedule, subject = linear_schedule(60), study.load("mixture")
    exact = sigma_hat_squared_from_residual(schedule, range(1, 61), subject.data.loss_floor(schedule, np.arange(1, 61)))
    walk = optimal_trajectory(schedule, np.append(np.nan, exact), 4).trajectory
    (cell,) = study.grid(schedule, ["analytic-0.5"], [4], ["optimal"], subject)
    assert cell.plan.trajectory == walk
    assert np.array_equal(cell.plan.noise, analytic(schedule, walk, np.append(np.nan, exact), 0.5).noise)
    for samplers, spacings in ((["analytic"], ["even"]), (["beta"], ["optimal"])):
        with pytest.raises(RangeError, match="depends on the data"):
            study.grid(schedule, samplers, [4], spacings)


def test_at_zero_terminal_snr_all_of_the_data_is_unknown() -> None:
    schedule = zero_terminal_snr(linear_schedule(20))
    (cell,) = study.grid(schedule, ["analytic"], [1], ["even"], study.load("gaussian"))
    assert (cell.plan.x[0], cell.plan.prediction[0], cell.plan.noise[0]) == (0.0, 1.0, 0.0)
    (cell,) = study.grid(schedule, ["analytic"], [2], ["even"], study.load("gaussian"))
    step = schedule.between(20, 1)
    assert cell.plan.noise[0] == np.sqrt(
        step.beta_tilde + step.x0_weight**2 * 0.25
    )  # beta_T = 1: no rounding but the root's


def test_nothing_to_draw_or_to_study() -> None:
    with pytest.raises(RangeError, match="nothing to draw"):
        study.figure([study.Cell("beta", "even", 1, float("inf"), None)], "none")
    with pytest.raises(RangeError, match="no steps were given"):
        study.grid(linear_schedule(10), ["beta"], [], ["even"])
    with pytest.raises(RangeError, match="oracle 'noise' is not known"):
        study.load("noise")


def figures(name: str) -> dict[tuple[str, str, int], str]:
    """The table of the page that stands below ``<!-- study NAME -->``."""
    block = PAGE.read_text().split(f"<!-- study {name} -->")[1].split("```")[1]
    head, *rows = [line.split() for line in block.splitlines()[2:]]
    return {(row[0], row[1], int(steps)): value for row in rows for steps, value in zip(head[2:], row[2:], strict=True)}


def compare(name: str, steps: list[int]) -> int:
    printed = figures(name)
    samplers, spacings = (list(dict.fromkeys(key[i] for key in printed)) for i in (0, 1))
    subject = study.load(name)
    cells = list(study.run(study.grid(linear_schedule(1000), samplers, steps, spacings, subject), subject))
    for cell in cells:
        shown = study.table([cell]).split()[-1]
        assert printed[cell.sampler, cell.spacing, cell.steps] == shown
    return len(cells)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "digits", "digits-gaussian"])
def test_the_page_prints_what_the_study_finds(name: str) -> None:
    assert compare(name, [10]) >= 6
    assert np.isfinite([float(value) for value in figures(name).values()]).all()


@pytest.mark.full
@pytest.mark.parametrize("name", ["gaussian", "mixture", "digits", "digits-gaussian"])
def test_the_page_prints_what_the_study_finds_at_every_length(name: str) -> None:
    assert compare(name, [25, 50, 100, 250]) >= 24
