"""The page of a report in a real browser: formulas are laid out, curves are drawn, nothing is fetched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from ddpm_ref.conformance import NumpyAdapter, TorchMirror, check

pytestmark = pytest.mark.browser

# Without these a headless Chromium calls home at every start.
QUIET = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
# Runs in the copy that is looked at; the page itself has no script.
MEASURE = """<script>
const sizes = [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect()).map(r => [r.width, r.height]);
const dots = document.querySelectorAll('svg circle').length;
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const fetched = performance.getEntriesByType('resource').map(r => r.name);
document.querySelectorAll('details').forEach(d => d.open = true);
const opened = [...document.querySelectorAll('math')].every(m => m.getBoundingClientRect().height > 5);
document.body.innerHTML = '<pre>' + JSON.stringify({sizes, dots, wide, fetched, opened}) + '</pre>';
</script>"""


def chromium() -> str:
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("no Chromium was found; install Debian's package chromium, or write make docs-check CHROMIUM=path")
    return found


class Wrong(NumpyAdapter):
    """A scheduler with one mistake."""

    name = "somebody's <scheduler>"

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    def q_sample(self, a: np.ndarray, x0: np.ndarray, t: object, noise: np.ndarray) -> np.ndarray:
        a = a[t].reshape(np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + (1 - a) * noise


@pytest.mark.parametrize("adapter", [Wrong, TorchMirror])
def test_a_report_shows_its_formulas_and_curves_and_fetches_nothing(adapter: type, tmp_path: Path) -> None:
    html = check(adapter(), "forward/*", max_examples=10).as_html()
    assert "<script" not in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?[^#"']""", html)
    page = tmp_path / "report.html"
    page.write_text(html.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    command = [chromium(), *QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    seen = json.loads(unescape(re.search(r"<pre>(.*)</pre>", shown, re.DOTALL)[1]))
    assert seen["opened"]
    assert len(seen["sizes"]) > 1
    assert all(width > 30 and height > 10 for width, height in seen["sizes"])
    assert seen["dots"] > 3
    assert not seen["wide"]
    assert seen["fetched"] == []
