"""The page in a real browser: it is quiet, its slider moves the picture, its movie plays, and nothing hostile runs."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from nstm.pipeline.movie import contents_of
from nstm.pipeline.report import run_report
from nstm.settings import Movie
from nstm.visual.movie import movie
from nstm.visual.series import Panel

from .. import browser as chromium
from ..pipeline.test_report import HOSTILE, full, row
from .test_movie import series

PROGRAM = chromium.find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: .ci/browser-packages installs it")


def moving(name: str, speed: int) -> Panel:
    """A bright square that goes across the field."""
    images = series(t=6, y=64, x=64) * 0
    images.attrs = {"pixel_um": 0.05}
    for i in range(6):
        images[i, 0, 0, 20:40, 2 + speed * i : 12 + speed * i] = 1
    return Panel(name, images)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with a good sample, one whose files are hostile, and one that has nothing."""
    folder = tmp_path_factory.mktemp("page")
    panels, settings = [moving("widefield", 2), moving("NSTM", 9)], Movie(height_px=200)
    for name in ("good", "bad"):
        full(folder / name, *((), ("warn", HOSTILE))[name == "bad"])
        layout = movie(panels, folder / name / "movie.mp4", settings)
        contents = contents_of(panels, layout, settings)
        if name == "bad":
            contents["panels"][0]["name"] = HOSTILE
            contents["times"][0]["label"] = HOSTILE
        (folder / name / "movie.json").write_text(json.dumps(contents))
        (folder / name / "figures").mkdir()
        Image.fromarray(np.zeros((60, 90), np.uint8)).save(folder / name / "figures" / "a.png")
        texts = {"title": HOSTILE, "caption": HOSTILE} if name == "bad" else {"title": "A", "caption": "B"}
        listed = {"figures": [{"file": "a.png", **texts}, {"file": "../../etc/passwd", **texts}]}
        (folder / name / "figures" / "figures.json").write_text(json.dumps(listed))
    metadata = json.loads((folder / "bad" / "inspect.json").read_text())
    metadata["metadata"] = {HOSTILE: HOSTILE, "x": "</script><script>window.pwned = 1</script>"}
    (folder / "bad" / "inspect.json").write_text(json.dumps(metadata))
    rows = [row("good"), row("bad", system="zz", group=HOSTILE), row("absent")]
    run_report({"report": {"title": HOSTILE[:100]}, "samples": rows}, {r["sample"]: folder / r["sample"] for r in rows},
               folder / "report.html")  # fmt: skip
    return folder / "report.html"


@pytest.fixture
def opened(page):
    with chromium.browser(str(PROGRAM)) as browser:
        browser.look(1280, 900)
        browser.open(page)
        yield browser


def test_the_page_is_quiet_and_nothing_hostile_runs(opened):
    opened.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    opened.until("[...document.querySelectorAll('video')].every((v) => v.readyState >= 1)")
    opened.until("[...document.images].every((i) => { i.loading = 'eager'; return i.complete && i.naturalWidth > 0; })")
    assert opened.said == []
    assert opened.evaluate("window.pwned === undefined")
    assert opened.evaluate("document.querySelectorAll('script').length") == 3
    assert opened.evaluate("document.querySelectorAll('[onerror], [onload]').length") == 0
    outside = [r for r in opened.requests if not r.startswith(("data:", "file:", "about:", "blob:"))]
    assert outside == []


def test_the_page_lets_no_other_script_run(opened):
    opened.evaluate("""(() => { const s = document.createElement("script");
        s.textContent = "window.pwned = 1"; document.body.append(s); })()""")
    opened.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x: onerror=\"window.pwned = 2\">')")
    time.sleep(0.2)
    assert opened.evaluate("window.pwned === undefined")


#: Where the light is in the large picture of one method, share of its width; NaN where nothing is drawn yet.
BRIGHT_COLUMN = """(() => {
    const canvas = document.querySelector(".player canvas"), middle = Math.round(canvas.height / 2);
    const row = canvas.getContext("2d").getImageData(0, middle, canvas.width, 1).data;
    const light = Array.from({length: canvas.width}, (_, x) => Math.max(0, row[4 * x] - 60));
    const sum = light.reduce((a, b) => a + b);
    return light.reduce((all, value, x) => all + value * x, 0) / sum / canvas.width; })()"""


def bright_at(browser, column: float) -> None:
    """Wait until the light is in that column of 64: a picture is drawn some time after it was asked for."""
    browser.until(f"Math.abs({BRIGHT_COLUMN} - {column / 64}) < 0.03")


def test_the_slider_moves_the_picture_by_keyboard(opened):
    opened.until("document.querySelector('.player video').readyState >= 2")
    opened.evaluate("document.querySelectorAll('.player input[type=radio]')[2].click()")  # NSTM, large
    assert opened.evaluate("document.querySelector('.player video').hidden")
    bright_at(opened, 7)
    opened.evaluate("document.querySelector('.player input[type=range]').focus()")
    for step in (1, 2, 3):
        opened.press("ArrowRight")
        bright_at(opened, 7 + 9 * step)
    label = opened.evaluate("document.querySelector('.player output').textContent")
    assert label == "350 ms"
    opened.evaluate("document.querySelectorAll('.player input[type=radio]')[1].click()")  # the other method, same time
    bright_at(opened, 7 + 2 * 3)


def test_the_movie_plays(opened):
    opened.evaluate("document.querySelector('.player button.play').click()")
    opened.until("document.querySelector('.player video').currentTime > 0.5")
    assert opened.evaluate("document.querySelector('.player video').error === null")
    opened.until("Number(document.querySelector('.player input[type=range]').value) >= 2")
    opened.evaluate("document.querySelector('.player button.play').click()")
    opened.until("document.querySelector('.player video').paused")


def test_the_overview_is_sorted_by_its_headings(opened):
    names = "[...document.querySelectorAll('table.overview tbody tr:first-child th')].map((t) => t.textContent)"
    assert opened.evaluate(names) == ["good", "bad", "absent"]
    opened.evaluate("document.querySelector('table.overview thead button').focus()")
    opened.press("Enter")
    assert opened.evaluate(names) == ["absent", "bad", "good"]
    opened.press("Enter")
    assert opened.evaluate(names) == ["good", "bad", "absent"]
    opened.evaluate("document.querySelectorAll('table.overview thead button')[6].click()")  # trust: worst first
    assert opened.evaluate(names) == ["bad", "absent", "good"]
    heading = "document.querySelectorAll('table.overview thead th')[6].getAttribute('aria-sort')"
    assert opened.evaluate(heading) == "ascending"


@pytest.mark.parametrize("dark", [False, True])
def test_phone_and_dark(opened, dark):
    opened.look(390, 844, dark=dark, scale=2)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    light = opened.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (light < 60) == dark
