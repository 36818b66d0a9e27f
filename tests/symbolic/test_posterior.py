"""The posterior: the reference against its derivation."""

import pytest


def test_posterior_variance(agree):
    agree.tables("posterior_variance", "variance", lambda c: c.schedule.between(c.t, c.s).beta_tilde)


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="posterior_variance"):
        agree.tables("posterior_variance", "variance", lambda c: c.schedule.between(c.t, c.s).beta)
