"""The demo's page: one paragraph and one picture for each thing that was done."""

from __future__ import annotations

from html import escape

from ddpm_ref.demo.quality import COUNT, Quality
from ddpm_ref.demo.summary import Summary

_STYLE = """\
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.55 system-ui, sans-serif; color: #222; background: #fff; }
h1, h2 { line-height: 1.2; } figure { margin: 1rem 0 2.5rem; } img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .95rem; } table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd; } td:last-child { text-align: right; }
code { background: #f3f3f3; padding: 0 .2rem; }"""


def render(summary: Summary) -> str:
    """The page as HTML; it needs nothing but the pictures beside it."""
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ddpm_ref: the demo</title>
<style>
{_STYLE}
</style>
</head>
<body>
<h1>Digits that nobody wrote</h1>
<p>A network of {summary.parameters:,} parameters was trained for {summary.training_seconds:.0f} seconds
({summary.training_steps:,} steps) to tell the noise in noisy digits from the digit, saved, loaded again, and asked
{summary.reverse_steps} times per sample to take a little noise away. The data are the 1797 handwritten digits of 8 by 8
pixels that ship with scikit-learn; a quarter of them was kept out of training.</p>
{_figure("samples.png", "Samples", _samples_text(summary), "Real digits and samples, side by side")}
{_quality(summary.quality)}
{_figure("forward.png", "The forward process", _FORWARD, "One digit at rising noise, and what the network makes of it")}
{_figure("posterior.png", "One step back", _POSTERIOR, "The posterior between x_t and x_0, as a plane and as images")}
{_figure("loss.png", "Training", _loss_text(summary), "The loss over the steps of training")}
<h2>What was run</h2>
{_table(_facts(summary))}
<p>All of these figures are in <code>summary.json</code>; the trained network is <code>checkpoint.safetensors</code>.</p>
</body>
</html>
"""


_FORWARD = (
    "One held-out digit and one noise, mixed as q(x_t | x_0) says, from the clean image almost up to level T, where nothing of "
    "the digit is left. Under each noisy image stands what the network takes for the clean one: the mean of all digits that "
    "could lie behind this noise. At low levels that is the digit, further up a guess, and in the end the average of all "
    "digits: if it looks otherwise, training was too short. Sampling walks this row from right to left."
)
_POSTERIOR = (
    "If the digit x_0 were known, every state between it and x_t would have a normal law, q(x_s | x_t, x_0). The picture on "
    "the left shows it in the two pixels that the noise has moved most: the line is the mean for every s < t, the circles are "
    "one standard deviation. The spread is nothing at both ends and largest on the way. On the right, means and draws as "
    "images. A sampler takes these steps with the network's guess in the place of x_0."
)


def _samples_text(summary: Summary) -> str:
    return (
        f"On the left real digits that training never saw, on the right the first of {summary.samples} samples, made in "
        f"{summary.sampling_seconds:.0f} seconds. Sampler: {summary.sampler}."
    )


def _loss_text(summary: Summary) -> str:
    return (
        "The squared error of the predicted noise, per pixel, at every step and smoothed. A network that knows nothing "
        f"scores 1; on the held-out digits this one ends at {summary.held_out_loss:.4f}. The loss does not go to zero: "
        "from a noisy image the noise cannot be known exactly."
    )


def _quality(quality: Quality | None) -> str:
    if quality is None:
        return f"<p>The samples were not judged: that takes {COUNT} of them.</p>"
    rows = (
        ("samples", f"{quality.samples:.1f}"),
        ("real digits, held out", f"{quality.held_out:.1f}"),
        ("normal law fitted to the pixels", f"{quality.fitted_gaussian:.1f}"),
    )
    return f"""\
<h2>How good are they?</h2>
<p>A small classifier, right on {quality.classifier_accuracy:.1%} of the held-out digits, reads {quality.images} images of each
kind, and the Fr&eacute;chet distance of its features to those of the training digits is taken. The distance of the samples is
{quality.of_held_out:.1f} times that of real digits, and {quality.of_gaussian:.2f} of that of a normal law with the right mean and
covariance of all pixels. Such distances mean something only beside each other: they depend on the classifier and on the
number of images, and are not the FID of papers.</p>
{_table(rows, ("Fréchet distance to the training digits", ""))}
<p>The classifier is at least 90 % sure of some digit for {quality.confident:.0%} of the samples, and for
{quality.confident_held_out:.0%} of the real ones. It takes {_counts(quality)}.
The nearest training digit is {quality.nearest:.3f} away (median, root mean square per pixel), for real digits
{quality.nearest_held_out:.3f}: samples much nearer than that would be copies.</p>
"""


def _counts(quality: Quality) -> str:
    return ", ".join(f"{count} for {digit}" for digit, count in enumerate(quality.digits))


def _facts(summary: Summary) -> tuple[tuple[str, str], ...]:
    return (
        ("ddpm_ref, torch", f"{summary.ddpm_ref}, {summary.torch}"),
        ("seed", str(summary.seed)),
        ("training ended by", summary.stopped),
        ("held-out loss", f"{summary.held_out_loss:.4f}"),
        ("schedule (digest of the betas)", summary.schedule_digest[:16]),
    )


def _figure(name: str, title: str, text: str, alternative: str) -> str:
    return (
        f'<h2>{escape(title)}</h2>\n<figure>\n<img src="{name}" alt="{escape(alternative)}">\n'
        f"<figcaption>{escape(text)}</figcaption>\n</figure>"
    )


def _table(rows: tuple[tuple[str, str], ...], head: tuple[str, str] | None = None) -> str:
    top = f"<tr><th>{escape(head[0])}</th><th>{escape(head[1])}</th></tr>\n" if head else ""
    body = "\n".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>\n{top}{body}\n</table>"
