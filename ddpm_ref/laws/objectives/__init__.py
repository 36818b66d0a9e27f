"""Laws of what training minimises: losses, the loss of a network, how levels are drawn, how a network is told the time."""

from ddpm_ref.laws.objectives import levels, losses, training

LAWS = (*losses.LAWS, *training.LAWS, *levels.LAWS)
