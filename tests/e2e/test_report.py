"""The page that `penstock bench report` makes, as people look at it: in Chromium, on a phone and on a desk."""

import json
import re
import subprocess

import pytest
from browser import browser  # noqa: F401  a fixture
from conftest import BINARY, DEMO, Server

SMALL = ["--set", "prompt_words=8", "--set", "max_tokens=8", "--allow-busy-generator"]
EVIL = "<img src=x onerror='window.hacked = 1'>"

# Of each plot: its title, its place, the lengths of its lines, its marks, its words with their boxes, its legend.
PLOTS = """return [...document.querySelectorAll('figure')].map(figure => {
  const svg = figure.querySelector('svg');
  const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  return {
    title: figure.querySelector('figcaption').textContent, box: box(svg),
    lines: [...svg.querySelectorAll('path')].map(p => p.getTotalLength()),
    boxes: [...svg.querySelectorAll('path, circle')].map(box),
    marks: [...svg.querySelectorAll('circle title')].map(t => t.textContent),
    words: [...svg.querySelectorAll('text')].map(t => [t.textContent, ...box(t)]),
    legend: [...figure.querySelectorAll('li')].map(l => l.textContent),
  };
})"""


def run_bench(*arguments):
    return subprocess.run([BINARY, "bench", *map(str, arguments)], capture_output=True, text=True, timeout=300)


def bench(*arguments):
    done = run_bench(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of all kinds of results: loads of two targets in rounds, a sweep, the engine alone, kernels."""
    folder = tmp_path_factory.mktemp("report")
    server = Server(folder)
    try:
        loads = [{"name": f"closed-{n}", "requests": 2 * n, "concurrency": n} for n in (2, 4, 8)]
        (folder / "loads.yaml").write_text(json.dumps([*loads, {"name": EVIL, "requests": 4}]))
        targets = ["--target", f"127.0.0.1:{server.port}", "--target", f"localhost:{server.port}"]
        bench("serve", folder / "loads.yaml", *targets, *SMALL, "--rounds", 2, "--output", folder / "loads.json")
        times = json.loads((folder / "loads.json").read_text())
        # An axis that begins with a tick, whose label is under the corner.
        times["runs"][0]["result"]["itl_seconds"]["curve"][0] = 1e-5
        (folder / "loads.json").write_text(json.dumps(times))
        goal = ["--set", "goal_e2e=100", "--set", "rate=20", "--set", "requests=12"]
        for _ in range(20):  # where the machine does other things, the generator itself may be late
            sweep = run_bench("sweep", *targets[:2], *goal, *SMALL[:4], "--output", folder / "sweep.json")
            if json.loads((folder / "sweep.json").read_text())["runs"][0]["ended_by"] != "generator":
                break
        assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    finally:
        assert server.stop() == 0, server.log
    bench("offline", DEMO, "--requests", 4, "--output-tokens", 8, "--rounds", 2, "--output", folder / "offline.json")
    kernels = ["--filter", "^linear/int8|^attention/int8/decode", "--seconds", 0.001]
    bench("kernels", *kernels, "--output", folder / "kernels.json")
    files = [folder / f"{name}.json" for name in ("loads", "sweep", "offline", "kernels")]
    bench("report", *files, "--output", folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("size", ["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_report_is_a_page_for_people(browser, report, size, dark):  # noqa: F811
    browser.size(size, dark)
    browser.show(report)
    browser.picture("report-dark" if dark else "report", whole=True)
    assert not browser.logged()
    assert browser.run("return performance.getEntriesByType('resource').length") == 0, "something was asked for"
    assert browser.run("return window.hacked === undefined && !document.querySelector('img, script')")
    assert browser.fits() and not browser.axe()
    text = browser.text("main")
    assert EVIL in text and "requests/s keep the goal" in text
    plots = browser.run(PLOTS)
    titles = [plot["title"] for plot in plots]
    times = ["Time to first token", "Time between tokens", "Time to the end", "Throughput against latency"]
    assert titles == [*times, *times, "Roofline"], titles
    for plot in plots:
        check(plot)
    first, through = plots[0], plots[3]
    assert len(first["lines"]) == 16 and len(first["legend"]) == 8, "rounds are lines of one colour"
    assert len(through["marks"]) == 8 and len(through["legend"]) == 2, through["marks"]
    width = browser.run("return innerWidth")
    assert all(plot["box"][2] <= width for plot in plots)
    # What does not fit scrolls by itself, also by the keyboard.
    if size == "phone":
        assert browser.run("return document.querySelector('.wide').scrollWidth > innerWidth")
    browser.run("document.querySelector('.wide').focus()")
    assert browser.run("return document.activeElement.className") == "wide"


def check(plot):
    title, (left, top, right, bottom) = plot["title"], plot["box"]
    assert right - left > 250 and bottom - top > 150, (title, plot["box"])
    assert plot["lines"] and all(length > 20 for length in plot["lines"]), (title, plot["lines"])
    for one in plot["boxes"]:
        assert left - 1 <= one[0] and one[2] <= right + 1 and top - 1 <= one[1] and one[3] <= bottom + 1, (title, one)
    ticks = [word for word in plot["words"] if re.fullmatch(r"[\d.]+(e[+-]\d+)?[kM]?", word[0])]
    assert len(ticks) >= 5 and plot["legend"], (title, plot["words"])
    for i, (word, *box) in enumerate(plot["words"]):
        assert left <= box[0] and box[2] <= right and top <= box[1] and box[3] <= bottom, (title, word, "is cut off")
        sides = sorted((box[3] - box[1], box[2] - box[0]))
        assert sides[0] >= 5 and sides[1] >= 9, (title, word, "is tiny")
        for other, *beside in plot["words"][:i]:
            apart = box[2] <= beside[0] or beside[2] <= box[0] or box[3] <= beside[1] or beside[3] <= box[1]
            assert apart, (title, word, "lies over", other)
