"""The schedule as an object: read-only, equal by its betas, the same after a copy or a pickle; identities between its tables."""

import copy
import hashlib
import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule

TABLES = [name for name, entry in vars(NoiseSchedule).items() if type(entry).__name__ == "Entry"]


def test_every_table_has_a_length_a_type_and_a_level_zero(any_schedule):
    assert len(TABLES) == 19
    first = {
        "alpha": 1,
        "alpha_bar": 1,
        "beta_bar": 0,
        "beta_tilde": 0,
        "snr": np.inf,
        "log_snr": np.inf,
        "log_beta_bar": -np.inf,
    }
    first |= {
        "log_alpha_bar": 0,
        "sqrt_alpha_bar": 1,
        "sqrt_beta_bar": 0,
        "posterior_x0_weight": 1,
        "posterior_xt_weight": 0,
    }
    for name in TABLES:
        table = getattr(any_schedule, name)
        assert (table.shape, table.dtype) == ((any_schedule.T + 1,), np.float64)
        assert not np.isnan(table).any()
        assert table[0] == first.get(name, table[0])


def test_nothing_can_be_written_over(any_schedule):
    H = any_schedule
    for name in (*TABLES, "beta", "alphas_cumprod", "alpha_bar_prev"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(H, name)[0] = 0.5
    for name in ("T", "beta", "alpha_bar", "new"):
        with pytest.raises(
            AttributeError, match=f"NoiseSchedule is read-only; make a new one instead of assigning '{name}'"
        ):
            setattr(H, name, 1)
    step = H.between([H.T], [0])
    with pytest.raises(AttributeError, match="Transition is read-only"):
        step.beta = 1
    for name in ("t", "s", "alpha", "beta_tilde"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(step, name)[0] = 1


def test_a_table_is_made_once(any_schedule):
    for name in TABLES:
        assert getattr(any_schedule, name) is getattr(any_schedule, name)
    assert "table" in type(NoiseSchedule.__dict__["alpha_bar"]).__doc__
    assert "alpha" in NoiseSchedule.alpha_bar.__doc__


def test_the_callers_array_is_neither_kept_nor_changed():
    betas = np.array([0.1, 0.2])
    H = NoiseSchedule.from_betas(betas)
    betas[:] = 0.9
    assert H.beta.tolist() == [0.0, 0.1, 0.2]
    t = np.array([2, 2])
    step = H.between(t, 1)
    t[:] = 1
    assert step.t.tolist() == [2, 2]


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda H: pickle.loads(pickle.dumps(H))}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
def test_copies_are_equal_and_still_read_only(again, any_schedule):
    before = any_schedule.alpha_bar
    other = again(any_schedule)
    assert other == any_schedule
    assert hash(other) == hash(any_schedule)
    assert np.array_equal(other.alpha_bar, before)
    assert np.array_equal(other.log_snr, any_schedule.log_snr)
    for table in (other.beta, other.alpha_bar):
        assert not table.flags.writeable
    step = again(any_schedule.between([any_schedule.T], [0]))
    assert step.beta_tilde == any_schedule.between(any_schedule.T, 0).beta_tilde
    assert not step.t.flags.writeable


def test_equality_and_digest():
    a, b = NoiseSchedule.from_betas([0.1, 0.2]), NoiseSchedule.from_betas([0.1, np.nextafter(0.2, 1)])
    assert a == NoiseSchedule.from_betas((0.1, 0.2))
    assert a != b
    assert a != NoiseSchedule.from_betas([0.1])
    assert a != "a schedule"
    assert len({a, b, NoiseSchedule.from_betas([0.1, 0.2])}) == 2
    # the digest is a golden value: SHA-256 of the betas as hexadecimal floats, on every platform
    text = "0x1.999999999999ap-4 0x1.999999999999ap-3"
    assert a.digest == hashlib.sha256(text.encode()).hexdigest()
    assert linear_schedule().digest == "1b164f1434b73616f351370ece91310f5d5604aaba4923c1e0bfd3b752f776bd"
    assert cosine_schedule().digest == "266f9eb7189ce3d29d52d7ec1ff3c7bfca5316ea7b42814219d02dc87a91e869"
    assert a.digest != b.digest
    assert repr(a) == "NoiseSchedule(T=2, beta_1=0.1, beta_T=0.2)"


def test_views_under_the_names_of_others(any_schedule):
    H = any_schedule
    assert np.array_equal(H.alphas_cumprod, H.alpha_bar[1:])
    assert H.alphas_cumprod.shape == H.alpha_bar_prev.shape == (H.T,)
    assert H.alpha_bar_prev[0] == 1
    assert np.array_equal(H.alpha_bar_prev[1:], H.alphas_cumprod[:-1])


def test_between_takes_scalars_and_arrays_of_one_shape():
    H = linear_schedule(20)
    box = H.between(np.array([[5, 6], [20, 3]]), np.array([[1, 2], [0, 2]]))
    assert box.x0_weight.shape == (2, 2)
    for i, j in itertools.product((0, 1), repeat=2):
        t, s = int(box.t[i, j]), int(box.s[i, j])
        assert box.x0_weight[i, j] == H.between(t, s).x0_weight
    assert np.array_equal(H.between([5, 7, 9], 3).beta, [H.between(t, 3).beta for t in (5, 7, 9)])
    assert np.array_equal(H.between(9, [1, 2]).alpha, [H.between(9, s).alpha for s in (1, 2)])
    assert H.between(np.uint8(9), np.int16(3)).beta == H.between(9, 3).beta
    assert H.between(np.zeros((0, 2), dtype=int), np.zeros((0, 2), dtype=int)).beta.shape == (0, 2)
    assert H.between(4, 3).beta == H.beta[4]


def test_adjacent_pairs_are_the_level_tables(any_schedule):
    H = any_schedule
    step = H.between(np.arange(1, H.T + 1), np.arange(H.T))
    pairs = {
        name: name
        for name in ("alpha", "beta", "beta_tilde", "sqrt_alpha", "sqrt_beta", "recip_sqrt_alpha", "eps_weight")
    }
    pairs |= {"x0_weight": "posterior_x0_weight", "xt_weight": "posterior_xt_weight"}
    for pair, level in pairs.items():
        assert np.array_equal(getattr(step, pair), getattr(H, level)[1:])


def test_monotone(any_schedule):
    H = any_schedule
    assert (np.diff(H.alpha_bar) < 0).all()
    assert (np.diff(H.beta_bar) > 0).all()
    assert (np.diff(H.snr) < 0).all()
    assert (np.diff(H.log_snr[1:]) < 0).all()


def test_pythagoras_and_the_recursion_in_fractions(any_schedule, worst):
    """Sums of squares are 1, and beta_bar_t = alpha_t beta_bar_{t-1} + beta_t, up to the single roundings of the entries."""
    H = any_schedule
    for t in range(1, H.T + 1):
        a, b = Fraction(float(H.sqrt_alpha_bar[t])), Fraction(float(H.sqrt_beta_bar[t]))
        assert worst([float(a**2 + b**2)], [Fraction(1)], [1], 3) <= 1
        assert Fraction(float(H.alpha_bar[t])) + Fraction(float(H.beta_bar[t])) - 1 <= Fraction(1, 2**53)
        previous, alpha = Fraction(float(H.beta_bar[t - 1])), Fraction(float(H.alpha[t]))
        assert (
            worst([float(alpha * previous + Fraction(float(H.beta[t])))], [Fraction(float(H.beta_bar[t]))], [1.0], 4)
            <= 1
        )
        if H.alpha_bar[t]:
            c, d = Fraction(float(H.sqrt_recip_alpha_bar[t])), Fraction(float(H.sqrt_recipm1_alpha_bar[t]))
            assert worst([float(c**2 - d**2)], [Fraction(1)], [c**2 + d**2], 3) <= 1


def test_order_of_the_betas_moves_no_end(any_schedule):
    """alpha_bar_T is symmetric in the betas."""
    betas = any_schedule.beta[1:]
    if betas[-1] == 1:
        return
    for order in itertools.islice(itertools.permutations(range(len(betas))), 5):
        assert NoiseSchedule.from_betas(betas[list(order)]).alpha_bar[-1] == any_schedule.alpha_bar[-1]


def test_bound_on_the_remaining_signal(any_schedule, lin1000):
    """log alpha_bar_T < -sum beta; the second-order estimate errs by the cubes: the figures of EQUATIONS and E08."""
    for H in (any_schedule, lin1000):
        total = sum(Fraction(b) for b in H.beta[1:].tolist())
        assert H.log_alpha_bar[-1] < -float(total)
    assert f"{lin1000.log_alpha_bar[-1]:.8f}" == "-10.11771354"
    betas = lin1000.beta[1:]
    estimate = -betas.sum() - (betas**2).sum() / 2
    assert f"{estimate:.8f}" == "-10.11703470"
    assert 0 < estimate - lin1000.log_alpha_bar[-1] < (betas**3).sum() / 3 / (1 - betas.max())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
def test_other_floating_types_are_read_exactly(dtype):
    betas = np.array([0.1, 0.25], dtype=dtype)
    assert NoiseSchedule.from_betas(betas).beta[1:].tolist() == betas.astype(np.float64).tolist()
