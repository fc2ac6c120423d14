"""The report in a real browser: no error in its console, every chart drawn and usable, and it fits any width."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from study_cases import JHMDB, made_study

from vclimb.study.report.write import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser is installed (looked for {', '.join(NAMES)})")

# Uses the page as a reader would once all charts are drawn, and reports what it saw.
PROBE = """
<script>
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const svg = (name) => document.querySelector(`[data-chart="${name}"] svg`);
const isFaint = (path) => path.hasAttribute("opacity") && path.getAttribute("opacity") < 0.5;
const faded = () => [...svg("acc-bytes").querySelectorAll("path")].filter(isFaint).length;
const ticks = () => svg("acc-bytes").querySelector("g.role-axis-label").textContent;
addEventListener("load", async () => {
  while (document.body.dataset.charts !== "drawn") await pause(50);
  const seen = {errors: window.seenErrors, charts: [], sorted: {}};
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const box = figure.querySelector("svg").getBoundingClientRect();
    const texts = [...figure.querySelectorAll("svg text")].filter((text) => text.textContent.trim());
    const outside = texts.filter((text) => {
      const place = text.getBoundingClientRect();
      return place.width && (place.left < box.left - 2 || place.right > box.right + 2);
    });
    seen.charts.push({
      name: figure.dataset.chart, width: box.width, height: box.height,
      marks: figure.querySelectorAll("g.mark-symbol path, g.mark-rect path").length,
      small: texts.filter((text) => text.getBoundingClientRect().height < 6).length,
      outside: outside.map((text) => text.textContent),
      exports: [...figure.querySelectorAll(".vega-actions a")].map((link) => link.textContent),
    });
  }
  const table = document.querySelector("table.sortable");
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.textContent === "Acc");
  const values = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value);
  for (const order of ["descending", "ascending"]) {
    heads[column].querySelector("button").click();
    seen.sorted[order] = values();
    seen.aria = heads[column].getAttribute("aria-sort");
  }
  const mark = [...svg("acc-bytes").querySelectorAll("g.mark-symbol.role-mark")].at(-1).querySelector("path");
  const place = mark.getBoundingClientRect();
  const at = {bubbles: true, clientX: place.x + place.width / 2, clientY: place.y + place.height / 2};
  for (const kind of ["pointerover", "pointermove"]) mark.dispatchEvent(new PointerEvent(kind, at));
  await pause(200);
  seen.tip = document.getElementById("vg-tooltip-element").textContent;
  seen.fadedBefore = faded();
  const entry = [...svg("acc-bytes").querySelectorAll("g.role-legend-symbol path")].at(-1);
  entry.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  await pause(200);
  seen.fadedAfter = faded();
  seen.ticksBefore = ticks();
  for (let turn = 0; turn < 5; turn += 1) {
    mark.dispatchEvent(new WheelEvent("wheel", {...at, deltaY: -300, shiftKey: true, cancelable: true}));
    await pause(50);
  }
  seen.ticksAfter = ticks();
  mark.dispatchEvent(new MouseEvent("click", at));
  await pause(200);
  seen.hash = location.hash;
  seen.shown = document.querySelectorAll("tr.shown").length;
  seen.width = innerWidth;
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>
"""
# A window is never narrower than 500 pixels; a frame in it is as narrow as a telephone.
FRAME = """<!doctype html><body>
<script>addEventListener("message", (event) => document.body.setAttribute("data-seen", event.data));</script>
<iframe src="NAME" style="border: 0; width: WIDTHpx; height: 900px"></iframe>
"""
WATCH = "<script>window.seenErrors = []; addEventListener('error', (e) => window.seenErrors.push(e.message));</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(made_study(tmp_path_factory.mktemp("made") / "jhmdb21", JHMDB).path).page


def browse(page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    profile = page.parent / "profile"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
    flags += ["--enable-logging=stderr", "--no-first-run", "--disable-extensions", "--disable-dev-shm-usage"]
    command = [BROWSER, *flags, *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)


def look(page: Path, width: int) -> tuple[dict[str, Any], str]:
    """Open the page in a frame of this width. Returns what the probe saw, and the browser's log."""
    probed = page.with_name(f"probed{width}.html")
    text = page.read_text("utf-8").replace("<head>", "<head>" + WATCH, 1)
    body, end = text.rsplit("</body>", 1)  # the library of the charts holds this word too
    probed.write_text(f"{body}{PROBE}</body>{end}", "utf-8")
    framed = page.with_name(f"framed{width}.html")
    framed.write_text(FRAME.replace("NAME", probed.name).replace("WIDTH", str(width)), "utf-8")
    done = browse(framed, f"--window-size={width + 100},1000", "--virtual-time-budget=60000", "--dump-dom")
    message = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert message, done.stderr[-2000:]
    return json.loads(html.unescape(message[1])), done.stderr


@pytest.mark.parametrize("width", [400, 1400])
def test_page_works_in_a_browser(page: Path, width: int) -> None:
    seen, logged = look(page, width)
    assert seen["errors"] == []
    assert "CONSOLE" not in logged, logged
    assert len(seen["charts"]) >= 20
    for chart in seen["charts"]:
        assert chart["width"] > 200, chart
        assert chart["height"] > 80, chart
        assert chart["marks"] > 5, chart
        assert chart["small"] == 0, chart
        assert chart["outside"] == [], chart
        assert chart["exports"] == ["Save as SVG", "Save as PNG"], chart
    down = [float(value) for value in seen["sorted"]["descending"]]
    up = [float(value) for value in seen["sorted"]["ascending"]]
    assert len(down) == len(up) > 70
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert seen["aria"] == "ascending"
    assert "Acc" in seen["tip"]
    assert "runs" in seen["tip"]
    assert seen["fadedBefore"] == 0 < seen["fadedAfter"]
    assert seen["ticksBefore"] != seen["ticksAfter"]
    assert seen["hash"].startswith("#cell-")
    assert seen["shown"] == 1
    assert seen["width"] == width
    assert seen["overflow"] <= 0  # nothing but wide tables scrolls sideways, and these by themselves


def test_page_can_be_printed(page: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    browse(page, f"--print-to-pdf={target}")
    assert target.read_bytes()[:5] == b"%PDF-"


def test_page_is_not_blank(page: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.png"
    browse(page, "--window-size=1400,1600", f"--screenshot={target}")
    colours = Image.open(target).convert("RGB").getcolors(2**24)
    assert colours is not None
    assert len(colours) > 100
