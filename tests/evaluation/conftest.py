import pytest
import torch

from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling import Denoiser


class Counting(torch.nn.Module):
    """A network whose answer for an example does not depend on the others, and that counts how often it is asked."""

    def __init__(self, doubled=False):
        super().__init__()
        self.calls = self.rows = 0
        self.doubled = doubled

    def forward(self, x, time):
        self.calls += 1
        self.rows += len(x)
        answer = 0.5 * x
        return torch.cat([answer, 0.25 * x.tanh()], dim=1) if self.doubled else answer


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return linear_schedule(T=10, beta_1=0.01, beta_T=0.4)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Seven images of 2 x 3 pixels in five grey levels."""
    return torch.randint(5, (7, 1, 2, 3), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def half(counting: Counting) -> Denoiser:
    return Denoiser(counting)


@pytest.fixture
def says_variance() -> Denoiser:
    return Denoiser(Counting(doubled=True), variance="learned_range")
