"""The rule `report`: every row, whatever exists of it, and nothing that runs."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from nstm.pipeline.report import run_report
from nstm.settings import Movie
from nstm.visual.chart import chart
from nstm.visual.embedded import relative_link
from nstm.visual.movie import movie
from nstm.visual.preview import MOVIE_BYTES, STILL_BYTES, small_picture
from nstm.visual.report import Evidence, _script, stage_views
from nstm.visual.series import Panel

from ..visual.test_movie import series

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"&\u202e{{7*7}}</style></table>'


class Page(HTMLParser):
    """Tags, attributes and text of a page; unbalanced tags are an error."""

    VOID = ("meta", "link", "img", "br", "line", "polyline", "circle")

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def row(sample, **more):
    return {"sample": sample, "path": f"/data/{sample}.tif", "system": "sim", "truth": None, **more}


def full(folder, status="pass", message=""):
    """Results of a sample that went through."""
    folder.mkdir(parents=True)
    reasons = [{"severity": status, "code": "c", "message": message}] if message else []
    block = {"status": status, "reasons": reasons}
    pattern = {
        "status": "pass", "reasons": [], "pattern_vectors": [[0.0, 2.5], [2.0, -1.5]], "phases": [[0, 1, 2]] * 2,
        "modulation": [[0.5, 0.7], [0.4, 0.6]], "overlap_correlation": [[0.9, 0.8]] * 2, "peak_ratio": [[8, 6]] * 2,
    }  # fmt: skip
    curve = {"psnr_plain": [20.0, None, 22.0], "psnr_equalised": [30.0, None, 33.0], "mean": {"psnr_equalised": 31.5}}
    other = {"psnr_equalised": [None, None, 25.2], "mean": {"psnr_equalised": 25.2}}
    contents = {
        "inspect": {**block, "sizes": {"t": 3}, "files": [{"path": "a.tif", "bytes": 12345}], "pixel_um": 0.065,
                    "pixel_origin": "config", "times": {"origin": "assumed", "duration_s": 9.0},
                    "metadata": {"k": "v"}},
        "quality": {**block, "acquisitions": [{"index": 0, **block, "mean": 600.0, "dead_frames": [[0, 1]]}]},
        "illumination": {**block, "consensus": pattern, "acquisitions": [pattern] * 3},
        "metrics": {"times_s": [0, 0.1, 0.2], "methods": {"nstm": curve, "conventional": other}, "seconds": 131.0,
                    "residual": 1.01, "held_out": {"frames": 3, "error": 1.1, "static_error": 2.5}},
        "trust": {**block, "acquisitions": [{"index": 0, **block, "residual_noise_units": 1.01}]},
    }  # fmt: skip
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    movie([Panel("NSTM", series(t=3))], folder / "movie.mp4", Movie(height_px=64))
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "still.png")
    return folder


def report(tmp_path, rows, title="Title"):
    out = tmp_path / "report.html"
    run_report(
        {"numerics": 1, "report": {"title": title}, "samples": rows},
        {r["sample"]: tmp_path / r["sample"] for r in rows},
        out,
    )
    text = out.read_text(encoding="utf-8")
    return text, Page(text)


def test_a_whole_sample(tmp_path):
    full(tmp_path / "good")
    store = tmp_path / "good" / "timelapse" / "conventional.ome.zarr"
    store.mkdir(parents=True)
    block = {
        "times_s": [0, 0.1, 0.2],
        "flags": ["no window here", "", ""],
        "window": 3,
        "window_note": "Windows lie within their acquisition.",
        "window_span_s": [None, 0.32, 0.3],
    }
    (store / "zarr.json").write_text(json.dumps({"attributes": {"nstm": block}}))
    text, page = report(tmp_path, [row("good", truth="t.zarr")])
    words = page.words()
    for expected in (
        "31.5", "25.2", "+6.3", "2.2 min",  # overview
        "200.0", "0.50 / 0.70", "126.87",  # illumination: finest of two orders
        "Times are assumed", "no result at 1 of 3 times (0 ms)", "mixes 3 consecutive orientations",
        "about 0.32 s", "Windows lie within",
        "no warning", "1.1 over 3 frames (static fit: 2.5)", "12.3 kB", "0.065 µm, from the config",
    ):  # fmt: skip
        assert expected in words, expected
    tags = [t for t, _ in page.tags]
    assert tags.count("video") == tags.count("img") == tags.count("svg") == 1
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert "good/movie.mp4" in text
    assert all("scope" in a for t, a in page.tags if t == "th")
    assert "<caption>" in text
    outside = [a[k] for t, a in page.tags for k in ("src", "href") if k in a and not a[k].startswith(("data:", "#"))]
    assert set(outside) == {"./good/movie.mp4"}


def test_every_row_stands_on_the_page_with_its_reason(tmp_path):
    full(tmp_path / "good")
    full(tmp_path / "doubtful", "warn", "Orientation 2 is dim: read with care.")
    for name, stage in [("gone", "inspect"), ("dark", "quality"), ("blur", "illumination")]:
        (tmp_path / name).mkdir()
        block = {"status": "fail", "reasons": [{"severity": "fail", "code": "x", "message": f"{name} is bad."}]}
        (tmp_path / name / f"{stage}.json").write_text(json.dumps(block))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "trust.json").write_text('{"status": ')
    rows = [row(n) for n in ("good", "doubtful", "gone", "dark", "blur", "damaged", "never")]
    _, page = report(tmp_path, rows)
    words = page.words()
    for name in ("gone", "dark", "blur"):
        assert f"{name} is bad." in words
    assert "Orientation 2 is dim: read with care." in words
    assert "trust.json cannot be read" in words
    assert "not made because the file could not be used" in words
    assert "not made because the raw-data checks failed" in words
    assert "not made because the illumination could not be estimated" in words
    assert "not made because the step has not finished" in words
    assert "7 samples: 1 passed every check, 1 with warnings, 4 failed, 1 unfinished." in words
    sections = [a["id"] for t, a in page.tags if t == "section"]
    links = [a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")]
    assert sections == links
    assert len(sections) == 7


def test_a_reason_that_gates_hand_on_stands_once():
    told = "the light fell by half"

    def stage(*messages):
        return {"status": "warn", "reasons": [{"severity": "warn", "message": message} for message in messages]}

    found = {
        "inspect": {"status": "pass"},
        "quality": stage(f"acquisition(s) 0, 1, the first: {told}"),
        "illumination": stage(f"acquisition(s) 0, 1, the first: {told}"),
        "trust": stage(f"acquisition(s) 0, 1: {told}", "acquisition(s) 1: the motion was not found"),
    }
    _, quality, illumination, trust = stage_views(Evidence({"sample": "cell"}, found))
    assert [r["message"] for r in quality["reasons"]] == [f"acquisition(s) 0, 1, the first: {told}"]
    assert [r["message"] for r in illumination["reasons"]] == ["for what is said under raw data"]
    assert [r["message"] for r in trust["reasons"]] == ["acquisition(s) 1: the motion was not found"]


def test_without_truth_the_page_says_so(tmp_path):
    folder = full(tmp_path / "good")
    (folder / "metrics.json").write_text(json.dumps({"methods": {}, "residual": 1.0}))
    assert "No truth is given" in report(tmp_path, [row("good")])[1].words()


def hostile(value):
    if isinstance(value, dict):
        return {k if k in KEEP else k + HOSTILE: hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return HOSTILE if isinstance(value, str) and value not in ("pass", "warn", "fail") else value


KEEP = {
    "status", "reasons", "severity", "message", "sizes", "t", "files", "path", "bytes", "metadata", "acquisitions",
    "consensus", "pattern_vectors", "methods", "psnr_equalised", "mean", "times_s", "dead_frames", "times", "origin",
}  # fmt: skip


def test_hostile_text_is_inert(tmp_path):
    folder = full(tmp_path / "good", "warn", "careful")
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(hostile(json.loads(path.read_text()))))
    store = folder / "timelapse" / "nstm.ome.zarr"
    store.mkdir(parents=True)
    block = {"times_s": [0, 1], "flags": [HOSTILE, HOSTILE], "window": 3, "block_name": HOSTILE}
    (store / "zarr.json").write_text(json.dumps({"attributes": {"nstm": block}}))
    bad = row("good", **dict.fromkeys(("path", "system", "channel", "group", "truth"), HOSTILE))
    text, page = report(tmp_path, [bad, row(HOSTILE)], title=HOSTILE[:150])
    assert "alert(1)" in page.words()
    assert "{{7*7}}" in page.words()
    names = {t for t, _ in page.tags}
    assert "script" in names
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    data, own = scripts[:-1], scripts[-1]
    assert own == _script()
    assert all(HOSTILE in json.loads(block)["panels"][0]["name"] or json.loads(block) for block in data)
    attributes = {name for _, a in page.tags for name in a}
    assert not {a for a in attributes if a.startswith("on")}
    assert sum(t == "img" for t, _ in page.tags) == 1
    assert "\u202e" not in text
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


ODD = [
    None,
    0,
    -1.5,
    True,
    "x",
    "",
    [],
    [None],
    [[]],
    {},
    {"a": None},
    [1, "x", {"status": 3}],
    float("nan"),
    float("inf"),
]


@pytest.mark.parametrize("name", ["inspect", "quality", "illumination", "metrics", "trust"])
def test_no_content_of_a_file_stops_the_page(tmp_path, name):
    folder = full(tmp_path / "odd")
    original = json.loads((folder / f"{name}.json").read_text())
    for key, odd in itertools.product(original, ODD):
        (folder / f"{name}.json").write_text(json.dumps({**original, key: odd}))
        run_report({"numerics": 1, "report": {}, "samples": [row("odd")]}, {"odd": folder}, tmp_path / "r.html")
    inner = {"acquisitions": [dict.fromkeys(("index", "status", "reasons", "mean", "dead_frames"), o) for o in ODD],
             "consensus": {"pattern_vectors": ODD, "modulation": ODD, "phases": ODD},
             "methods": {str(i): o for i, o in enumerate(ODD)}, "times_s": ODD,
             "files": ODD, "sizes": {"t": "x"}}  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(inner))
    _, page = report(tmp_path, [row("odd")])
    assert "odd" in page.words()


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"\xff\xfe", b"[" * 100_000])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "quality.json").write_bytes(content)
    (tmp_path / "a" / "still.png").write_bytes(b"no picture")
    (tmp_path / "a" / "movie.mp4").write_bytes(b"")
    store = tmp_path / "a" / "timelapse" / "nstm.ome.zarr"
    store.mkdir(parents=True)
    (store / "zarr.json").write_bytes(content)
    _, page = report(tmp_path, [row("a")])
    assert "quality.json cannot be read" in page.words()


def test_same_page_again(tmp_path):
    full(tmp_path / "good")
    assert report(tmp_path, [row("good")])[0] == report(tmp_path, [row("good")])[0]


def test_pictures_and_movies_are_bounded(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1400, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "big.png")
    kind, data = small_picture(tmp_path / "big.png", STILL_BYTES)
    assert kind == "webp"
    assert len(data) <= STILL_BYTES
    folder = full(tmp_path / "good")
    with (folder / "movie.mp4").open("ab") as file:  # too large for a preview
        file.truncate(401 * MOVIE_BYTES)
    text, page = report(tmp_path, [row("good")])
    video = next(a for t, a in page.tags if t == "video")
    assert video["src"] == "./good/movie.mp4"
    assert len(text) < 400_000


def test_fifty_samples_full_of_pictures_fit_into_forty_megabytes(tmp_path):
    """What one sample adds when all that it embeds is as large as may be."""
    folder = full(tmp_path / "good")
    noise = np.random.default_rng(0).integers(0, 255, (400, 500, 3), dtype=np.uint8)
    (folder / "figures").mkdir()
    names = [f"f{i}.png" for i in range(9)]
    for path in [folder / "still.png", folder / "quality.png", *(folder / "figures" / n for n in names)]:
        Image.fromarray(noise).save(path)
    listed = [{"file": name, "title": "t", "caption": "c"} for name in names]
    (folder / "figures" / "figures.json").write_text(json.dumps({"figures": listed}))
    with (folder / "movie.mp4").open("ab") as file:
        file.truncate(MOVIE_BYTES)
    one, page = report(tmp_path, [row("good")])
    empty, _ = report(tmp_path, [row("never")])
    assert sum(t == "img" for t, _ in page.tags) == 11
    assert next(a for t, a in page.tags if t == "video")["src"].startswith("data:")
    assert 50 * (len(one) - len(empty)) < 40_000_000


def test_links_have_no_scheme_of_their_own(tmp_path):
    (tmp_path / "javascript:alert(1)").mkdir()
    assert relative_link(tmp_path / "javascript:alert(1)" / 'a"#?.mp4', tmp_path).startswith("./javascript%3A")
    assert relative_link(tmp_path / "x" / "m.mp4", tmp_path / "pages") == "./../x/m.mp4"


def test_chart_leaves_gaps_open():
    drawn = chart({"times_s": [0, 1, 2, 3], "methods": {"nstm": {"psnr_equalised": [20, 21, None, 22]}}})
    assert drawn is not None
    assert len(drawn["lines"][0]["paths"]) == 1
    assert len(drawn["lines"][0]["points"]) == 3
    assert chart({"times_s": [0], "methods": {"nstm": {"psnr_equalised": [20]}}}) is None
    assert chart({"times_s": [0, 1], "methods": {"nstm": {"psnr_equalised": [20, 20]}}}) is not None
    assert chart({"times_s": [0, 1], "methods": {"nstm": {"psnr_equalised": [-1e9, 1e9]}}}) is not None
