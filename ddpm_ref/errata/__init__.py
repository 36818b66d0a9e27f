"""What is commonly written about these models and is not so: the right form, the damage computed, and what catches it.

Each subject has its file of records and one of `demonstrations`, whose functions are named like the records; refutations by
computer algebra stand in `ddpm_ref.symbolic.refutations`, and laws name an erratum by its id. A new subject is a file in each
of these places and an entry in `SUBJECTS`; the page, the command and the tests follow.
"""

from __future__ import annotations

from ddpm_ref.errata import analytic, ancestral, bound, ddim, forward, guidance, posterior
from ddpm_ref.errata.record import SEVERITIES, Catch, Erratum, Figure
from ddpm_ref.errors import RangeError

SUBJECTS = (forward, posterior, bound, ancestral, ddim, analytic, guidance)
ERRATA: dict[str, Erratum] = {erratum.id: erratum for subject in SUBJECTS for erratum in subject.ERRATA}
"""By id, in the order of the subjects."""


def find(erratum: str) -> Erratum:
    """An erratum by its id.

    Args:
        erratum: e.g. ``"E13"``; upper or lower case.

    Returns:
        the record.

    Raises:
        RangeError: there is none of this id; the message lists what exists.

    >>> find("e15").written.partition(" ")[0], [each.live for each in find("E15").figures()]
    ('\\\\mu', ['1.4351', '2.0752', '0.6968', '0.4819'])
    """
    if erratum.upper() not in ERRATA:
        raise RangeError(f"no erratum is called {erratum!r}; there are {', '.join(ERRATA)}")
    return ERRATA[erratum.upper()]


__all__ = ["ERRATA", "SEVERITIES", "SUBJECTS", "Catch", "Erratum", "Figure", "find"]
