"""The damage of each erratum, computed: the wrong form beside the right one of `ddpm_ref.reference`. One function each."""
