import pytest
import torch

from ddpm_ref.errors import RangeError
from ddpm_ref.sampling import GeneratorNoise, NoiseSource
from ddpm_ref.sampling.noise import WEYL, Stream, _chain_seed, keyed_generator, keyed_seed

CPU = torch.device("cpu")


def test_a_source_is_a_function_of_seed_and_step():
    def draw(seed, step):
        return GeneratorNoise(seed).normal(step, (3, 5), torch.float32, CPU)

    assert torch.equal(draw(0, 4), draw(0, 4))
    assert not torch.equal(draw(0, 4), draw(0, 5))
    assert not torch.equal(draw(0, 4), draw(1, 4))
    assert isinstance(GeneratorNoise(), NoiseSource)


def test_the_batches_of_a_set_differ_and_no_two_steps_share_what_torch_keeps_of_a_seed():
    def draw(first, step=1):
        return GeneratorNoise(0, first).normal(step, (3, 5), torch.float32, CPU)

    assert torch.equal(draw(0), GeneratorNoise(0).normal(1, (3, 5), torch.float32, CPU))
    assert not torch.equal(draw(0), draw(3))
    # 32 bits on a CPU: a hash of (seed, step) would collide somewhere in so many steps.
    low = {(_chain_seed(0, 0) + step * WEYL) % 2**32 for step in range(200_000)}
    assert len(low) == 200_000


def test_numbers_of_several_words_do_not_meet_their_neighbours():
    # Words alone would read (seed 2^32, step 0) as (seed 0, step 1).
    keys = [(0, 1, 0), (2**32, 0, 0), (0, 0, 1), (0, 2**32, 0), (0, 0, 2**32), (1, 0, 0), (2**64, 0, 0)]
    assert len({keyed_seed(Stream.SAMPLING, *key) for key in keys}) == len(keys)
    assert keyed_seed(Stream.SAMPLING, 5, 7) == keyed_seed(Stream.SAMPLING, 5, 7, 0)


def test_neighbouring_keys_have_different_seeds():
    keys = [(stream, seed, step) for stream in Stream for seed in range(20) for step in range(20)]
    seeds = {keyed_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_drawing_leaves_torch_s_own_generator_alone():
    before = torch.get_rng_state()
    GeneratorNoise(3).normal(0, (4,), torch.float64, CPU)
    keyed_generator(CPU, Stream.TRAINING, 0, 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (0, -1), (True, 0)])
def test_wrong_keys_are_refused(seed, step):
    with pytest.raises(RangeError, match="whole number >= 0"):
        keyed_seed(Stream.SAMPLING, seed, step)


def test_a_wrong_seed_of_a_source_is_refused():
    for wrong in (-1, True):
        with pytest.raises(RangeError, match="whole number >= 0"):
            GeneratorNoise(wrong).normal(1, (1,), torch.float32, CPU)
