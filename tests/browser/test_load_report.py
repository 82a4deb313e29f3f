"""The report of a load test in a real browser: it fits a telephone and a desk, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

import pytest

from loadtests.report.page import page
from tests.browser_pages import needs_browser, opened
from tests.load_results import result_of

pytestmark = needs_browser

_LOOK = """
<script>
addEventListener("load", () => {
  const seen = document.querySelector("iframe").contentDocument;
  const shown = (name) => [...seen.querySelectorAll(name)].filter((each) => each.checkVisibility()).length;
  document.getElementById("seen").textContent = JSON.stringify({
    width: seen.documentElement.scrollWidth, narrow: shown(".narrow svg"), wide: shown(".wide svg"),
    fetched: seen.defaultView.performance.getEntriesByType("resource").length,
  });
});
</script>
"""


@pytest.mark.parametrize(("width", "narrow"), [(360, True), (1280, False)])
def test_it_fits_and_shows_each_picture_once(width: int, narrow: bool, tmp_path: Path) -> None:
    html = page(result_of({"step at 50 %": 500.0, "step at 100 %": 1_000.0}, refused_share=0.1))
    frame = f'<iframe width="{width}" height="800" srcdoc="{escape(html)}"></iframe><pre id="seen"></pre>{_LOOK}'
    path = tmp_path / "frame.html"
    path.write_text(f'<!doctype html><meta charset="utf-8">{frame}')
    dumped, console = opened(path.as_uri(), tmp_path / "profile")
    assert console == ""
    found = re.search(r'<pre id="seen">(\{.*?\})</pre>', dumped)
    assert found is not None
    seen = json.loads(found[1])
    # Whatever is too wide scrolls by itself; the page does not.
    assert seen["width"] <= width
    pictures = html.count('class="wide"')
    assert (seen["narrow"], seen["wide"]) == ((pictures, 0) if narrow else (0, pictures))
    assert seen["fetched"] == 0
