"""Intervals enclose the truth as often as they say: of means, of what is unknown, of variances, of a path's cost.

Each is counted over many sets of data and held against the binomial law of a count with that probability; of all counts
of this file together, one in 1e9 files would be refused without a fault.
"""

import numpy as np
import pytest
import torch
from scipy.special import bdtr, bdtrc

from ddpm_ref.errors import MomentsError, RangeError
from ddpm_ref.estimation import CoMoments, Moments
from ddpm_ref.estimation.intervals import of_mean, of_path_cost, of_unknown, of_variance
from ddpm_ref.estimation.unknown import unknown_by_level
from ddpm_ref.estimation.values import FORMS, Job
from ddpm_ref.reference.analytic import analytic_variance, path_cost
from ddpm_ref.reference.named_schedules import cosine_schedule, zero_terminal_snr
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.sampling import Denoiser

SNR = np.array([9.0, 7.0, 5.4, 4.2, 3.2, 2.5])
SHORT = NoiseSchedule.from_alpha_bars(SNR / (1 + SNR))
WALK = Trajectory((6, 5, 4, 3, 2, 1, 0))
LEVELS = sorted(WALK.levels[:-1])
S2 = 0.0625  # variance of the data: normal, its bounds far
SETS, SIZE, COMPONENTS = 1200, 40, 16
FAMILY_WISE, COUNTS = 1e-9, 3 * len(LEVELS) + 3
COMBINATIONS = [("optimal", "residual"), ("optimal", "mean_square"), ("zero", "residual")]


def as_often(hits, confidence):
    """Whether a count of successes is one that this probability gives; two sides, all counts of the file together."""
    tail, hit = FAMILY_WISE / COUNTS / 2, int(np.sum(hits))
    return bool(bdtr(hit, len(hits), confidence) > tail and bdtrc(hit - 1, len(hits), confidence) > tail)


def truth(name, form):
    """The moments of these networks on normal data, in closed form."""
    a, b = SHORT.alpha_bar[LEVELS], SHORT.beta_bar[LEVELS]
    if name == "zero":
        return a / b * S2
    share = a * S2 / (a * S2 + b)
    return share if form == "residual" else 1 - share


@pytest.fixture(scope="module")
def sets():
    """Values of 1200 sets of 40 data, by network: the optimal one, and one that always says the data are 0.

    What the first gets wrong at one level is nearly independent of what it gets wrong at another. The second is wrong
    everywhere by the same: by the data.
    """
    data = S2**0.5 * torch.randn(
        SETS * SIZE, COMPONENTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    a, b = (torch.from_numpy(np.array(column)) for column in (SHORT.alpha_bar, SHORT.beta_bar))
    networks = {
        "optimal": Denoiser(lambda x, time: x * (b.sqrt() / (a * S2 + b))[time + 1][:, None]),
        "zero": Denoiser(lambda x, time: torch.zeros_like(x), "x0"),
    }

    def values(denoiser):
        ready = Job(denoiser, SHORT, data, 1, 16000, 0, "cpu").ready()
        columns = [np.concatenate([ready.values(batch, t) for batch in range(ready.job.batches)]) for t in LEVELS]
        return np.stack(columns, axis=1).reshape(SETS, SIZE, len(LEVELS), len(FORMS))

    return {name: values(denoiser) for name, denoiser in networks.items()}


def intervals_of_means(sets, name, form, size=SIZE, confidence=0.9):
    values = sets[name][:, :size, :, FORMS.index(form)]
    return [of_mean(CoMoments.of(part), confidence) for part in values]


@pytest.mark.parametrize(("name", "form"), COMBINATIONS)
def test_intervals_of_means_enclose_the_truth_as_often_as_they_say(name, form, sets):
    found, true = intervals_of_means(sets, name, form), truth(name, form)
    hits = np.array([(interval.low <= true) & (true <= interval.high) for interval in found])
    assert all(as_often(column, 0.9) for column in hits.T)
    # The count can tell: intervals of half the length, or at another confidence than was said, are refused.
    halves = [np.abs(interval.estimate - true) <= (interval.high - interval.low) / 4 for interval in found]
    assert not any(as_often(column, 0.9) for column in np.array(halves).T)
    assert not any(as_often(column, 0.97) for column in hits.T)


def test_few_data_have_the_quantile_of_student_not_that_of_the_normal_law(sets):
    true, found = truth("optimal", "residual"), intervals_of_means(sets, "optimal", "residual", size=3)
    hits = np.array([(interval.low <= true) & (true <= interval.high) for interval in found])
    assert all(as_often(column, 0.9) for column in hits.T)
    shorter = 1.645 / 2.920  # of the normal law against Student's with 2 degrees of freedom
    normal = [np.abs(interval.estimate - true) <= shorter * (interval.high - interval.low) / 2 for interval in found]
    assert not any(as_often(column, 0.9) for column in np.array(normal).T)


def measured(sets, name, form, moments, index):
    values = sets[name][index]
    made = moments(values[:, :, 1], values[:, :, 0], schedule_digest=SHORT.digest, levels=tuple(LEVELS))
    return made, truth(name, form)


@pytest.mark.parametrize(
    ("name", "form", "eta"), [("optimal", "residual", 0.0), ("optimal", "mean_square", 0.5), ("zero", "residual", 1.0)]
)
def test_what_follows_from_a_mean_is_enclosed_exactly_where_the_mean_is(name, form, eta, sets, moments):
    outside = 0
    for index in range(30):
        made, true = measured(sets, name, form, moments, index)
        mean, unknown = of_mean(made.of(form), 0.6), of_unknown(SHORT, made, form, 0.6)
        scale = SHORT.beta_bar[LEVELS] / SHORT.alpha_bar[LEVELS]
        v = scale * (true if form == "residual" else 1 - true)
        variance = of_variance(SHORT, WALK, unknown, eta)
        t, s = WALK.levels[:-1], WALK.levels[1:]
        wanted = analytic_variance(SHORT, t, s, v[::-1], eta)
        inside = (mean.low <= true) & (true <= mean.high)
        assert np.array_equal((unknown.interval.low <= v) & (v <= unknown.interval.high), inside)
        assert np.array_equal(((variance.low <= wanted) & (wanted <= variance.high))[::-1], inside)
        assert (variance.low <= variance.estimate).all()
        assert (variance.estimate <= variance.high).all()
        outside += int((~inside).sum())
    assert outside > 30  # of 180, so that the equality above was tried on both sides


@pytest.mark.parametrize(
    ("name", "form"),
    [("zero", "residual"), *(pytest.param(*each, marks=pytest.mark.full) for each in COMBINATIONS[:2])],
)
def test_the_cost_of_a_path_is_enclosed_as_often_as_is_said(name, form, sets, moments):
    made, true = measured(sets, name, form, moments, 0)
    v = np.full(7, np.nan)
    v[LEVELS] = SHORT.beta_bar[LEVELS] / SHORT.alpha_bar[LEVELS] * (true if form == "residual" else 1 - true)
    wanted = path_cost(SHORT, WALK, v)

    def encloses(made):
        cost = of_path_cost(SHORT, WALK, made, form, 1.0, 0.9)
        return cost.low <= wanted <= cost.high

    made = [measured(sets, name, form, moments, index)[0] for index in range(150)]
    assert as_often(np.array([encloses(each) for each in made]), 0.9)
    if name == "zero":  # were the levels taken for independent, the count would tell
        assert not as_often(np.array([encloses(with_independent_levels(each)) for each in made]), 0.9)


def with_independent_levels(made):
    kept = made.residual
    diagonal = np.diag(np.diag(kept.products))
    return Moments(made.origin, made.mean_square, CoMoments(kept.count, kept.mean, diagonal))


def test_a_clipped_level_adds_its_whole_interval_to_the_cost(moments, schedule):
    walk, levels = Trajectory((10, 5, 1, 0)), (1, 5, 10)
    bound = float(schedule.alpha_bar[10] / schedule.beta_bar[10])  # of the residual, for data in [-1, 1]

    def cost(at_10):
        values = np.array([[0.02, 0.30], [0.03, 0.31]] * 20)
        made = moments(np.column_stack([values, np.tile(at_10, 20)]), levels=levels)
        return of_path_cost(schedule, walk, made), of_unknown(schedule, made)

    (near, unknown), (far, _) = cost([0.5 * bound, 1.6 * bound]), cost([5.0 * bound, 6.0 * bound])
    assert unknown.clipping.above == (10,)
    assert unknown.inside.tolist() == [1.0, 1.0, 0.0]
    assert unknown.interval.low[2] < unknown.interval.estimate[2] == unknown.interval.high[2]  # it may lie below
    assert near.estimate == far.estimate
    assert near.high == far.high
    assert 0 < near.low < far.low < far.estimate  # beyond doubt above the bound, level 10 adds nothing


@pytest.mark.parametrize("form", FORMS)
def test_estimates_outside_their_bounds_are_clipped_and_counted(form, moments, schedule):
    values = np.array([[0.5, 1.3], [0.7, 1.4]])
    made = moments(values, values, levels=(3, 7))
    found = of_unknown(schedule, made, form)
    table, clipping = unknown_by_level(schedule, made, form)
    assert np.array_equal(table[[3, 7]], found.interval.estimate)
    assert np.isnan(table[[0, 1, 2, 4, 5, 6, 8, 9, 10]]).all()
    assert clipping == found.clipping
    if form == "residual":  # 1.35 beta_bar/alpha_bar, or beyond what data in [-1, 1] can scatter
        assert (clipping.below, clipping.above) == ((), (7,))
        assert table[7] == min(schedule.beta_bar[7] / schedule.alpha_bar[7], 1.0)
    else:  # 1 - 1.35 < 0
        assert (clipping.below, clipping.above) == ((7,), ())
        assert table[7] == 0.0
    assert found.inside.tolist() == [1.0, 0.0]


def test_the_range_of_the_data_bounds_what_is_unknown(moments, schedule):
    made = moments([[1.0], [1.0]], levels=(9,), low=0.0, high=0.5)
    assert of_unknown(schedule, made).interval.estimate.tolist() == [0.0625]


def test_only_the_levels_asked_are_known(moments, schedule):
    made = moments([[0.5, 0.4], [0.5, 0.4]], levels=(3, 7))
    table, clipping = unknown_by_level(schedule, made, only=(7, 9))
    assert np.flatnonzero(~np.isnan(table)).tolist() == [7]
    assert clipping.estimates == 1


def test_without_signal_only_the_residual_tells(moments):
    schedule = zero_terminal_snr(cosine_schedule(T=10))
    made = moments([[0.2, 0.5], [0.4, 0.3]], levels=(5, 10), schedule_digest=schedule.digest)
    found = of_unknown(schedule, made)
    assert found.levels.tolist() == [5, 10]
    assert found.interval.estimate[1] == 0.4  # of the data, as it was measured
    assert of_unknown(schedule, made, "mean_square").levels.tolist() == [5]


def test_one_datum_has_no_interval_and_two_have(moments, schedule):
    with pytest.raises(MomentsError, match="at least 2 data"):
        of_mean(CoMoments.of([[1.0]]))
    for ask in (of_unknown, lambda s, m: of_path_cost(s, Trajectory((2, 1, 0)), m)):
        with pytest.raises(MomentsError, match="at least 2 data"):
            ask(schedule, moments([[0.5, 0.5]]))
    two = of_mean(CoMoments.of([[1.0], [3.0]]), 0.5)  # t = 1 for one degree of freedom: 2 -+ sqrt(2)/sqrt(2)
    assert (round(float(two.low[0]), 12), round(float(two.high[0]), 12)) == (1.0, 3.0)
    table, _ = unknown_by_level(schedule, moments([[0.5, 0.5]]))  # an estimate needs no interval
    assert np.isfinite(table[[1, 2]]).all()


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, float("nan")])
def test_a_confidence_is_a_share(confidence):
    with pytest.raises(RangeError, match=r"a share in \(0, 1\)"):
        of_mean(CoMoments.of([[1.0], [2.0]]), confidence)


def test_what_was_not_measured_is_named(moments, schedule):
    made = moments([[0.5, 0.4], [0.4, 0.5]], levels=(3, 7))
    with pytest.raises(MomentsError, match=r"nothing is known of level 10 \(1 of 2 levels"):
        of_path_cost(schedule, Trajectory((10, 7, 3, 0)), made)
    with pytest.raises(MomentsError, match="nothing is known of level 5"):
        of_variance(schedule, Trajectory((5, 3, 0)), of_unknown(schedule, made))


def test_other_words_and_other_schedules_are_refused(moments, schedule):
    made = moments([[0.5], [0.4]])
    with pytest.raises(RangeError, match="'mean_square', 'residual'"):
        of_unknown(schedule, made, "mean")
    with pytest.raises(MomentsError, match="the moments are of a schedule with digest"):
        of_unknown(NoiseSchedule.from_betas([0.5]), made)
    with pytest.raises(RangeError, match="eta = 0"):
        of_path_cost(schedule, Trajectory((1, 0)), made, eta=0.0)
