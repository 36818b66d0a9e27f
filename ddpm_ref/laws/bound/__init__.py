"""Laws of the variational bound: its terms, the term of the data, what selects them, its weights, the bound as a whole."""

from ddpm_ref.laws.bound import oracle, reconstruction, relation, selector, terms, weights

LAWS = (*terms.LAWS, *reconstruction.LAWS, *selector.LAWS, *weights.LAWS, *relation.LAWS, *oracle.LAWS)
