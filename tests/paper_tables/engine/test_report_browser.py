"""The report in headless Chromium, on a phone's and a desktop's width, in light and in dark."""

import json
import re
import shutil
import subprocess

import pytest

from paper_tables.engine import store

from .test_report import results, write  # noqa: F401

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for path in map(shutil.which, NAMES) if path), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is installed")

WIDTHS = (390, 1280)
SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # WebGL without a GPU
DARK = "--blink-settings=preferredColorScheme=0"

# Runs in the page: what it looks like once its plots are there, told to the page around it.
PROBE = """<script>
const refused = [];
document.addEventListener("securitypolicyviolation", e => refused.push(e.blockedURI));
const wide = canvas => canvas.width > 100;
const beyond = e => !e.closest(".scroll, svg, .plot, pre")  // these scroll in themselves
  && e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1;
const timer = setInterval(() => {
  const root = document.documentElement;
  if (!("plots" in root.dataset || "error" in root.dataset)) return;
  clearInterval(timer);
  setTimeout(() => {
    const all = query => [...document.querySelectorAll(query)];
    parent.postMessage({
      width: innerWidth, scroll: root.scrollWidth, plots: root.dataset.plots,
      error: root.dataset.error || "", refused: refused.filter(place => place !== "eval"),
      dark: matchMedia("(prefers-color-scheme: dark)").matches,
      background: getComputedStyle(document.body).backgroundColor,
      canvases: all('[data-kind="surfaces"] .gl-container canvas').filter(wide).length,
      curves: all('[data-kind="spectra"] .scatterlayer .trace').length,
      caption: all(".caption").map(p => p.textContent).join(" | "),
      text: all(".plot").map(p => p.innerText).join(" "),
      beyond: all("body *").filter(beyond).map(e => e.outerHTML.slice(0, 80)),
      pictures: all("figure img").length,
    }, "*");
  }, 200);
}, 50);
</script>"""

# Chromium's own window is never narrower than 500 pixels, a frame may be.
FRAMES = """<!doctype html><meta name="color-scheme" content="light dark"><body><script>
const found = [];
addEventListener("message", e => {{
  found.push(e.data);
  document.body.dataset.found = JSON.stringify(found);
}});
</script>{frames}"""


def chromium(profile, *options):
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--virtual-time-budget=5000",
               f"--user-data-dir={profile}", *options]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture
def seen(tmp_path, results):  # noqa: F811
    """A function that shows the page in frames of both widths, and says what was seen."""
    write(store.published(results), results)
    page = (results / "report.html").read_text()
    (results / "probed.html").write_text(page.replace("<style>", PROBE + "<style>", 1))
    frame = '<iframe src="probed.html" style="width:{}px;height:900px;border:0"></iframe>'
    frames = "".join(frame.format(width) for width in WIDTHS)
    around = results / "around.html"
    around.write_text(FRAMES.format(frames=frames))

    def look(*options):
        dom = chromium(tmp_path / "profile", *options, "--dump-dom", around.as_uri())
        found = re.search(r'data-found="([^"]*)"', dom)
        assert found, "the page told nothing"
        told = json.loads(found.group(1).replace("&quot;", '"').replace("&amp;", "&"))
        return sorted(told, key=lambda one: one["width"])

    return look


def check_layout(told):
    assert [one["width"] for one in told] == list(WIDTHS)
    for one in told:
        assert one["error"] == ""
        assert one["refused"] == [], "nothing is fetched"
        assert one["scroll"] <= one["width"], "the page does not scroll sideways"
        assert one["beyond"] == []


@pytest.mark.parametrize("dark", [False, True])
def test_both_plots_are_drawn_on_a_phone_and_a_desktop(seen, dark):
    told = seen(*SOFTWARE, *([DARK] if dark else []))
    check_layout(told)
    for one in told:
        assert one["plots"] == "surfaces spectra"
        assert one["canvases"] >= 1
        assert one["curves"] == 2 * 3, "lines and their nodes"
        assert "filter L2: ratio 999, explodes" in one["caption"]
        assert "LeNet on MNIST" in one["caption"]
        assert "WebGL" not in one["text"], "no message in place of the surface"
        assert one["dark"] is dark
        assert (one["background"] == "rgb(255, 255, 255)") is not dark


def test_without_webgl_the_drawn_figures_remain(seen):
    told = seen("--disable-gpu", "--disable-3d-apis")
    check_layout(told)
    for one in told:
        assert one["plots"] == "spectra"
        assert one["canvases"] == 0
        assert one["pictures"] == 1


def test_it_prints(tmp_path, results):  # noqa: F811
    write(store.published(results), results)
    target = tmp_path / "report.pdf"
    page = (results / "report.html").as_uri()
    chromium(tmp_path / "profile", f"--print-to-pdf={target}", page)
    content = target.read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 30
