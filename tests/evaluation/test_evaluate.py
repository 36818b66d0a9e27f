"""Evaluating in one piece, in parts, in batches of any size: the same numbers, and no question asked twice."""

import itertools
import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from bound_of_images import Step, U, logarithm_of, mean, prior, rounding

from ddpm_ref.arithmetic import Claim
from ddpm_ref.errors import EvaluationError, OutputError, PrecisionError, RangeError, ScheduleError, ShapeError
from ddpm_ref.estimation.state import partial_path
from ddpm_ref.evaluation import Evaluation, evaluate, measurement
from ddpm_ref.evaluation.terms import COLUMNS
from ddpm_ref.laws import Case
from ddpm_ref.laws.running import running, total
from ddpm_ref.reference.named_schedules import cosine_schedule, zero_terminal_snr
from ddpm_ref.sampling import Denoiser
from ddpm_ref.sampling.noise import Stream, keyed_seed
from ddpm_ref.sampling.philox import PhiloxNoise
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.tables import tables

KNOWN = np.append(np.nan, np.full(10, 0.25))


def same(one: Evaluation, other: Evaluation) -> bool:
    """Equal to the bit."""
    return (
        np.array_equal(one.totals, other.totals)
        and np.array_equal(one.priors, other.priors)
        and all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for a, b in zip(one.steps, other.steps, strict=True)
            for name in ("count", "mean", "products")
        )
    )


def stop_after(tasks):
    def report(progress):
        if progress.step >= tasks:
            raise KeyboardInterrupt

    return report


def steps_of(schedule, walk, x0, log_variances, *, levels=5, dtype=torch.float32, clip=True):
    """What the steps of an evaluation with seed 4 come to if the network answers with half of what it sees."""
    mirror, noise = tables(schedule), PhiloxNoise(keyed_seed(Stream.EVALUATION, 4))
    for (t, s), log_variance in zip(itertools.pairwise(walk), log_variances, strict=True):
        eps = noise.normal(t, tuple(x0.shape), dtype, torch.device("cpu"))
        xt = q_sample(mirror, x0.to(dtype), t, eps)
        clean, drawn, seen = (images.double().flatten(start_dim=1).numpy() for images in (x0, eps, xt))
        yield Step.of(schedule, (t, s), clean, drawn, seen, seen / 2, log_variance, levels, clip=clip)


def of_posterior(schedule, walk, first_step="replace"):
    """The logarithms of its variances; the last, which is 0, replaced by that before, or by that of level 2."""
    pairs = list(itertools.pairwise(walk))
    pairs[-1] = pairs[-2] if first_step == "replace" else (2, 1)
    return [logarithm_of(schedule.between(*pair).words("beta_tilde")) for pair in pairs]


def of_beta(schedule, walk):
    return [logarithm_of(schedule.between(*pair).words("beta")) for pair in itertools.pairwise(walk)]


def assert_within(found, wanted):
    assert (np.abs(found - wanted.value.high) <= rounding(wanted)).all()


def assert_of(found, schedule, x0, steps):
    """Every number within the roundings on the way to it."""
    steps, columns = list(steps), [found.column(name).estimate for name in COLUMNS]
    for k, step in enumerate(steps):
        for name, column in zip(COLUMNS, columns, strict=True):
            assert_within(column[k], mean(getattr(step, name)))
    priors = prior(schedule, x0.double().flatten(start_dim=1).numpy())
    assert_within(found.priors, priors)
    assert_within(found.totals, total(priors, *(step.bits_per_dim for step in steps)))


WALK = (10, 6, 1, 0)


@pytest.mark.parametrize("clip", [True, False])
def test_each_term_is_that_of_the_formulas(clip, schedule, images, half):
    x0 = -1 + images.double() / 2
    steps = list(steps_of(schedule, WALK, x0, of_posterior(schedule, WALK), clip=clip))
    assert_of(evaluate(half, schedule, images, WALK, levels=5, seed=4, clip_x0=clip), schedule, x0, steps)
    for other in ({"seed": 5, "clip_x0": clip}, {"seed": 4, "clip_x0": not clip}):
        with pytest.raises(AssertionError):
            assert_of(evaluate(half, schedule, images, WALK, levels=5, **other), schedule, x0, steps)


@pytest.mark.parametrize("batch_size", [3, 20, 256])
def test_the_batch_size_does_not_matter_nor_do_the_other_images(batch_size, schedule, images, half):
    walk, x0 = tuple(range(10, -1, -1)), -1 + images.double() / 2
    steps = list(steps_of(schedule, walk, x0, of_posterior(schedule, walk)))
    assert_of(evaluate(half, schedule, images, levels=5, seed=4, batch_size=batch_size), schedule, x0, steps)
    few = evaluate(half, schedule, images[:4], levels=5, seed=4, batch_size=batch_size)
    assert_of(few, schedule, x0[:4], steps_of(schedule, walk, x0[:4], of_posterior(schedule, walk)))


@pytest.mark.parametrize(("batch_size", "calls"), [(7, 10), (14, 6), (256, 2), (4, 10 + 10), (6, 10 + 3)])
def test_rows_of_several_levels_share_a_pass(batch_size, calls, schedule, images, half, counting):
    evaluate(half, schedule, images, levels=5, batch_size=batch_size)
    assert counting.calls == calls
    assert counting.rows == 70  # one for each image and step, however they are put together


def scattered(numbers):
    """Their mean, its standard error, and by how much either may err by roundings, relatively."""
    n, size, scatter = len(numbers), np.linalg.norm(numbers), np.linalg.norm(numbers - numbers.mean())
    # NUMERICS 5, sums: one by one, and the quotient. chan1983 for the scatter: n kappa u if merged one by one, kappa the condition
    # of the variance; the roots, the quotients and the mean that two passes take away are in the ten. Both ways are charged.
    of_error = 2 * (n + 10) * (size / scatter) * U
    return numbers.mean(), scatter / math.sqrt(n * (n - 1)), 2 * (n + 2) * U, of_error


def test_an_average_has_the_error_of_its_images(schedule, images, half):
    found = evaluate(half, schedule, images, levels=5)
    estimate, error, of_estimate, of_error = scattered(found.totals)
    assert found.total.estimate == pytest.approx(estimate, rel=of_estimate, abs=0)
    assert found.total.standard_error == pytest.approx(error, rel=of_error, abs=0)
    # NUMERICS 5, sums: eleven positive terms, for every image or as averages.
    parts, sums = found.prior.estimate + found.column("bits_per_dim").estimate.sum(), 2 * 11 * U
    assert found.total.estimate == pytest.approx(parts, rel=of_estimate + sums, abs=0)
    nats = found.nats_per_image()  # NUMERICS 2: the constant, two products, on either side
    assert nats.estimate == pytest.approx(estimate * 6 * math.log(2), rel=of_estimate + 6 * U, abs=0)


def test_whole_numbers_are_the_images_on_their_grid(schedule, images, half):
    wanted = evaluate(half, schedule, images, levels=5)
    assert same(evaluate(half, schedule, -1 + images.float() / 2, levels=5), wanted)
    assert same(evaluate(half, schedule, images.to(torch.uint8), levels=5), wanted)


def test_clipping_brings_predictions_to_the_range_of_the_data(schedule, images):
    far = Denoiser(lambda x, time: 3 + 0 * x, "x0")
    clipped, not_clipped = (evaluate(far, schedule, images, levels=5, clip_x0=clip) for clip in (True, False))
    exact = (-1 + images.double() / 2).numpy()
    # NUMERICS 5, sums: quarters, whose squares and sums are exact; an image's mean, and that of images one by one, are rounded.
    for found, end in ((clipped, 1), (not_clipped, 3)):
        wanted = np.square(exact - end).mean()
        assert np.allclose(found.column("mse_x0").estimate, wanted, rtol=2 * (len(exact) + 2) * U, atol=0)
    assert np.array_equal(clipped.column("mse_eps").estimate, not_clipped.column("mse_eps").estimate)


def test_continuous_data_have_a_density(schedule, images, half):
    exact = -1 + images.double() / 2
    found = evaluate(half, schedule, exact, levels=None, seed=4)
    walk = tuple(range(10, -1, -1))
    steps = steps_of(schedule, walk, exact, of_posterior(schedule, walk), levels=None, dtype=torch.float64)
    assert_of(found, schedule, exact, steps)
    # NUMERICS 2: there and back between bits of a component and nats of an image (3 each), the logarithm (2), the sums.
    wanted = float(found.total.estimate) + math.log2(127.5)
    assert found.as_if_discrete(256) == pytest.approx(wanted, rel=10 * U, abs=0)
    with pytest.raises(RangeError, match="there are at least 2"):
        found.as_if_discrete(1)
    with pytest.raises(RangeError, match="5 levels, and their bits per dimension need no offset"):
        evaluate(half, schedule, images, levels=5).as_if_discrete()
    wide = evaluate(half, schedule, 3 * exact, levels=None, clip_x0=False)
    assert wide.totals.shape == (7,)


@pytest.mark.parametrize("kind", ["learned", "learned_range"])
def test_a_learned_variance_is_the_networks(kind, schedule, images):
    step = tables(schedule)
    t = torch.arange(10, 0, -1)
    beta = step.between(t, t - 1).beta.log()

    def network(x, time):
        k = 10 - 1 - time  # of the step, in sampling order
        said = beta[k] if kind == "learned" else torch.ones(len(x), dtype=torch.float64)
        return torch.cat([0.5 * x, said.to(x.dtype)[:, None, None, None].expand(x.shape)], dim=1)

    exact, walk = -1 + images.double() / 2, tuple(range(10, -1, -1))
    found = evaluate(Denoiser(network, variance=kind), schedule, exact, levels=5, variance=kind, seed=4)
    steps = list(steps_of(schedule, walk, exact, of_beta(schedule, walk), dtype=torch.float64))
    assert_of(found, schedule, exact, steps)
    fixed = evaluate(
        Denoiser(lambda x, time: 0.5 * x), schedule, exact, levels=5, variance="beta", first_step="exact", seed=4
    )
    assert_of(fixed, schedule, exact, steps)


@pytest.mark.parametrize("first_step", ["replace", "replace_unstrided"])
@pytest.mark.parametrize("said", [-1.0, -0.3, 1.0, "by pixel"])
def test_a_learned_range_is_interpolated_on_the_trajectory(said, first_step, schedule, images):
    walk, x0 = (10, 6, 2, 0), -1 + images.double() / 2
    o = torch.linspace(-0.75, 0.75, 6).reshape(1, 2, 3) if said == "by pixel" else torch.full((1, 2, 3), said)
    network = Denoiser(lambda x, time: torch.cat([0.5 * x, o.expand(x.shape)], dim=1), variance="learned_range")
    found = evaluate(network, schedule, images, walk, variance="learned_range", first_step=first_step, levels=5, seed=4)
    case = Case(Claim("fp64"), schedule)
    share = np.broadcast_to(o.double().flatten().numpy() + 1, (7, 6)) / 2
    between = [
        total(running(case, share, 1) * large, running(case, 1 - share, 1) * small)
        for small, large in zip(of_posterior(schedule, walk, first_step), of_beta(schedule, walk), strict=True)
    ]
    assert_of(found, schedule, x0, steps_of(schedule, walk, x0, between))


def test_a_network_that_learned_a_variance_may_be_used_with_another(schedule, images, says_variance, half):
    one = evaluate(says_variance, schedule, images, levels=5, variance="beta")
    assert same(one, evaluate(half, schedule, images, levels=5, variance="fixed_large"))


@pytest.mark.parametrize("stop", [3, 10, 21, 30])
def test_in_parts_it_is_what_it_is_in_one_piece(stop, schedule, images, counting, half, tmp_path):
    path, options = tmp_path / "e.safetensors", {"levels": 5, "batch_size": 3}
    whole = evaluate(half, schedule, images, **options)
    counting.calls = 0
    if stop < 10:  # of 30 terms, 10 for each of 3 batches
        with pytest.raises(KeyboardInterrupt):
            evaluate(half, schedule, images, **options, output=path, progress=stop_after(stop))
    else:
        first = evaluate(half, schedule, images, **options, output=path, progress=stop_after(stop))
        assert first.interrupted == (stop < 30)
        assert first.count == min(3 * (stop // 10), 7)
        assert np.array_equal(first.totals, whole.totals[: first.count])
    seen = []
    second = evaluate(half, schedule, images, **options, output=path, progress=seen.append)
    assert not second.interrupted
    assert same(second, whole)
    assert same(Evaluation.load(path), whole)
    assert (
        counting.calls == 10 + 10 + 4
    )  # what one piece takes: three steps of the last batch, of one image, share a pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["e.safetensors"]
    assert not seen or (seen[-1].task, seen[-1].step, seen[-1].remaining) == ("evaluate", 30, 0)


def test_sigterm_ends_it_after_the_pass_being_done(schedule, images, half, tmp_path):
    def report(progress):
        if progress.step == 13:
            os.kill(os.getpid(), signal.SIGTERM)

    found = evaluate(half, schedule, images, levels=5, batch_size=3, output=tmp_path / "e.safetensors", progress=report)
    assert (found.interrupted, found.count) == (True, 3)


def test_the_state_is_written_now_and_then(schedule, images, half, tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "SAVE_SECONDS", 0.0)
    path, seen = tmp_path / "e.safetensors", []

    def report(progress):
        seen.append(partial_path(path).exists())
        partial_path(path).unlink()

    evaluate(half, schedule, images, levels=5, batch_size=7, output=path, progress=report)
    assert seen == [True] * 10


def test_what_is_complete_is_not_computed_again(schedule, images, half, tmp_path):
    path = tmp_path / "e.safetensors"
    found = evaluate(half, schedule, images, levels=5, output=path)

    def never(x, time):
        raise AssertionError

    assert same(evaluate(Denoiser(never), schedule, images, levels=5, output=path), found)
    assert same(evaluate(Denoiser(never), schedule, images, levels=5, output=str(path)), found)


def test_the_random_state_and_the_mode_of_the_network_are_left_as_they_were(schedule, images, half):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    half.network.train()
    evaluate(half, schedule, images, levels=5)
    assert half.network.training
    assert torch.equal(before, torch.get_rng_state())


CHANGES = [
    ({"seed": 1}, "seed is 0 there and 1 now"),
    ({"batch_size": 2}, "batch_size is 3 there"),
    ({"network": "other"}, "network_digest is  there and other now"),
    ({"trajectory": (10, 5, 1, 0)}, r"trajectory is \(10, 5, 0\) there"),
    ({"variance": "beta"}, "variance is analytic there and beta now"),
    ({"first_step": "replace"}, "first_step is exact there and replace now"),
    ({"x0_variance": KNOWN / 2}, "variance_digest is"),
    ({"clip_x0": False}, "clip_x0 is True there and False now"),
    ({"levels": 9}, "levels is 5 there and 9 now"),
    ({"images": slice(0, 6)}, "data_digest is"),
    ({"denoiser": Denoiser(lambda x, time: x, "v")}, "prediction is eps there and v now"),
    ({"denoiser": Denoiser(lambda x, time: x, "eps", "one_based")}, "time_code is zero_based there"),
    ({"schedule": cosine_schedule(T=10)}, "schedule_digest is"),
]


@pytest.mark.parametrize(
    ("change", "message", "stop"), [*((*each, 100) for each in CHANGES), *((*each, 3) for each in CHANGES[:2])]
)
def test_another_evaluation_is_refused_and_only_replaced_if_told(
    change, message, stop, schedule, images, half, tmp_path
):
    path, chosen = tmp_path / "e.safetensors", change.get("images")
    usual = {
        "denoiser": half,
        "schedule": schedule,
        "data": -1 + images.float() / 2,
        "trajectory": (10, 5, 0),
        "variance": "analytic",
        "x0_variance": KNOWN,
        "levels": 5,
        "batch_size": 3,
    }
    other = usual | {name: value for name, value in change.items() if name != "images"}
    if chosen is not None:
        other["data"] = usual["data"][chosen]
    if other["variance"] == "beta":
        other["x0_variance"] = None
    evaluate(**usual, output=path, progress=stop_after(stop))
    left = path if stop == 100 else partial_path(path)
    before = left.read_bytes()
    with pytest.raises(EvaluationError, match=message):
        evaluate(**other, output=path)
    assert left.read_bytes() == before
    assert same(evaluate(**other, output=path, overwrite=True), evaluate(**other))


def test_a_damaged_state_is_refused_and_replaced_if_told(schedule, images, half, tmp_path):
    path, options = tmp_path / "e.safetensors", {"levels": 5, "batch_size": 3}
    evaluate(half, schedule, images, **options, output=path, progress=stop_after(13))
    partial_path(path).write_bytes(partial_path(path).read_bytes()[:-1])
    with pytest.raises(EvaluationError, match=r"e\.partial\.safetensors"):
        evaluate(half, schedule, images, **options, output=path)
    assert evaluate(half, schedule, images, **options, output=path, overwrite=True).count == 7


def bad_at(t):
    def network(x, time):
        return torch.where((time == t - 1)[:, None, None, None], torch.nan, 0.5 * x)

    return network


ANALYTIC = {"levels": 5, "variance": "analytic"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": torch.zeros(1, 3), "levels": None}, RangeError, "1 image; a standard error needs at least 2"),
        ({"data": torch.zeros(0, 3)}, ShapeError, "at least one component"),
        ({"data": torch.zeros(3)}, ShapeError, r"shape \(3,\)"),
        ({"data": torch.zeros(3, 2).half()}, PrecisionError, "float16"),
        ({"data": torch.zeros(3, 2, dtype=torch.bool)}, PrecisionError, "bool"),
        ({"data": torch.zeros(3, 2, dtype=torch.int64), "levels": None}, PrecisionError, r"write data.float\(\)"),
        (
            {"data": torch.tensor([[0.0, 0.5], [1.5, 2.0]])},
            RangeError,
            r"2 of 4 numbers of data \(50 %\) .*; scale them",
        ),
        ({"data": torch.tensor([[0.0, 0.5], [0.3, 1.0]])}, RangeError, "0.25 between the 5 levels"),
        (
            {"data": torch.tensor([[0, 4], [5, 1]])},
            RangeError,
            r"1 of 4 numbers of data \(25 %\) lie outside 0\.\.4, e\.g\. 5",
        ),
        ({"data": torch.tensor([[-1, 4], [5, 1]], dtype=torch.int16)}, RangeError, r"2 of 4 .* \(50 %\) lie outside"),
        ({"data": torch.tensor([[0, 4], [200, 1]], dtype=torch.uint8)}, RangeError, r"lie outside 0\.\.4, e\.g\. 200"),
        ({"data": torch.tensor([[0.0, torch.nan], [0.5, 1.0]])}, RangeError, "nan"),
        ({"data": torch.tensor([[0.0, torch.inf], [0.5, 1.0]]), "levels": None, "clip_x0": False}, RangeError, "inf"),
        ({"data": torch.tensor([[0.0, 0.5], [1.5, 2.0]]), "levels": None}, RangeError, "50 %.*write clip_x0=False"),
        ({"levels": 1}, RangeError, "levels is 1"),
        ({"levels": True}, RangeError, "levels is True"),
        ({"trajectory": (9, 5, 0)}, ScheduleError, "begins at level 9, the wrong end"),
        ({"trajectory": (11, 5, 0)}, ScheduleError, "begins at level 11, the wrong end"),
        ({"trajectory": (10, 5, 1)}, ScheduleError, "end with 0"),
        ({"trajectory": (10, 0)}, ScheduleError, "has only one"),
        ({"variance": "small"}, RangeError, "variance = 'small' is not known"),
        ({"first_step": "none"}, RangeError, "first_step = 'none' is not known"),
        ({"first_step": "exact"}, RangeError, "at 0, where a likelihood says nothing"),
        ({"first_step": "floor"}, RangeError, "at 1e-20"),
        ({"x0_variance": KNOWN}, RangeError, "belongs to variance = 'analytic', not to 'posterior'"),
        ({"variance": "analytic"}, RangeError, "needs x0_variance"),
        ({**ANALYTIC, "x0_variance": KNOWN[:5]}, ShapeError, r"shape \(5,\)"),
        ({**ANALYTIC, "x0_variance": -KNOWN}, RangeError, "negative"),
        (
            {**ANALYTIC, "x0_variance": np.where(np.arange(11) == 4, np.nan, KNOWN)},
            RangeError,
            r"not known \(NaN\) at level 4",
        ),
        ({**ANALYTIC, "x0_variance": 0 * KNOWN}, RangeError, "from t = 1 to 0 is 0"),
        ({"variance": "learned_range"}, RangeError, "the network says nothing of a variance"),
        ({"variance": "learned_range", "x0_variance": KNOWN}, RangeError, "belongs to variance = 'analytic'"),
        ({"variance": "learned", "first_step": "replace"}, RangeError, "the network says the variance of every step"),
        ({"batch_size": 0}, RangeError, "batch_size is 0"),
        ({"seed": -1}, RangeError, "seed is -1"),
        ({"device": "abacus"}, RangeError, "'abacus' cannot be used"),
        (
            {"denoiser": Denoiser(bad_at(4))},
            RangeError,
            r"the network's answer is not finite at t = 4 \(the step to 3\)",
        ),
        ({"denoiser": Denoiser(lambda x, time: x[:, :0])}, ShapeError, "the network returned shape"),
        ({"schedule": zero_terminal_snr(cosine_schedule(T=10))}, RangeError, "zero terminal SNR"),
        ({"output": Path("/no/such/folder/e.safetensors")}, OutputError, "cannot be written"),
    ],
)
def test_what_cannot_be_evaluated_is_named(change, error, message, schedule, images, half):
    with pytest.raises(error, match=message):
        evaluate(**{"denoiser": half, "schedule": schedule, "data": images, "levels": 5, **change})


def test_a_network_that_learned_another_variance_is_refused(schedule, images, says_variance):
    with pytest.raises(RangeError, match="variance = 'learned', but the network says 'learned_range'"):
        evaluate(says_variance, schedule, images, levels=5, variance="learned")
    with pytest.raises(ScheduleError, match="has only one"):
        evaluate(says_variance, schedule, images, (10, 0), levels=5, variance="learned_range")


def test_a_term_that_is_not_finite_is_named(schedule, images):
    def network(x, time):
        return torch.cat([0.5 * x, torch.full_like(x, -1e30)], dim=1)

    with pytest.raises(RangeError, match="t = 10"):
        evaluate(Denoiser(network, variance="learned"), schedule, images, levels=5, variance="learned")


def test_json_holds_everything_and_is_finite(schedule, images, half):
    found = evaluate(half, schedule, images, (10, 4, 0), levels=5)
    values = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert [(row["t"], row["s"]) for row in values["terms"]] == [(10, 4), (4, 0)]
    assert values["bits_per_dim"] == {
        "estimate": float(found.total.estimate),
        "standard_error": float(found.total.standard_error),
    }
    assert values["terms"][1]["mse_x0"]["estimate"] == found.column("mse_x0").estimate[1]
    assert values["conditions"]["trajectory"] == [10, 4, 0]
    with pytest.raises(RangeError, match="column 'mse' is not known"):
        found.column("mse")
