"""deploy/grafana is what the binary makes, and its queries name what the catalogue has."""

import json
import re
import subprocess

import pytest
from conftest import BINARY, ROOT

FOLDER = ROOT / "deploy/grafana"
BOARDS = ["overview", "latency", "cache-scheduler", "tenants", "rollouts", "gpus"]
WORDS = {"sum", "max", "min", "avg", "count", "by", "on", "group_left", "rate", "increase", "histogram_quantile",
         "time"}
TARGET_LABELS = {"instance", "job"}  # of the scrape


def catalogue():
    """name -> (type, labels), from the page of metrics."""
    text = subprocess.run([BINARY, "check-config", "--metrics"], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| ([^|]*) \|", text, re.M)
    assert len(rows) > 40
    return {name: (kind, set(filter(None, labels.strip().split(",")))) for name, kind, labels in rows}


def names_and_labels(query):
    """The metrics of a query, and the labels that it names."""
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
    for group in re.findall(r"\b(?:by|on|group_left)\s*\(([^)]*)\)", query):
        labels |= {w.strip() for w in group.split(",") if w.strip()}
    bare = re.sub(r"\{[^{}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", query)
    bare = re.sub(r"\b(?:by|on|group_left)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"[a-zA-Z_][\w:]*", bare)) - WORDS, labels


def problems(query, rows):
    names, labels = names_and_labels(query)
    known = set(TARGET_LABELS)
    for name in names:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        found = rows.get(name) if name in rows and rows[name][0] != "histogram" else None
        if found is None and base != name and rows.get(base, ("",))[0] == "histogram":
            found = rows[base]
            known |= {"le"} if name.endswith("_bucket") else set()
        if found is None:
            yield f"{name} is not in the catalogue"
        else:
            known |= found[1]
    for label in labels - known:
        yield f"{label} is a label of none of {sorted(names)}"
    if not names:
        yield "names no metric"


def test_the_committed_ones_are_the_generated_ones(tmp_path):
    made = tmp_path / "made"
    subprocess.run([BINARY, "check-config", "--dashboards", str(made)], check=True)
    assert {p.name for p in made.iterdir()} == {f"penstock-{name}.json" for name in BOARDS}
    assert {p.name for p in FOLDER.iterdir()} == {p.name for p in made.iterdir()}
    for file in made.iterdir():
        assert (FOLDER / file.name).read_text() == file.read_text(), f"{file.name}: generate it again"
    refused = subprocess.run([BINARY, "check-config", "--dashboards", "/proc/none"], capture_output=True, text=True)
    assert refused.returncode == 1 and "cannot be written" in refused.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_queries_name_what_there_is(name):
    rows = catalogue()
    board = json.loads((FOLDER / f"penstock-{name}.json").read_text())
    assert board["uid"] == f"penstock-{name}" and board["title"]
    panels = [p for p in board["panels"] if p["type"] != "row"]
    titles = [p["title"] for p in panels]
    assert len(titles) == len(set(titles)) and len(titles) >= 10
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    for panel in panels:
        assert panel["targets"] and panel["description"], panel["title"]
        for target in panel["targets"]:
            wrong = list(problems(target["expr"], rows))
            assert not wrong, (panel["title"], target["expr"], wrong)
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\(([\w:]+), (\w+)\)", variable["query"]).groups()
            assert metric in rows and label in rows[metric][1] | TARGET_LABELS


def test_this_test_can_fail():
    rows = catalogue()
    assert list(problems("rate(vllm:none_total[5m])", rows))
    assert list(problems("sum by (tenant) (vllm:num_requests_running)", rows))
    assert list(problems("rate(vllm:e2e_request_latency_seconds[5m])", rows))
    assert list(problems('penstock_ready{colour="red"}', rows))
    assert not list(problems("histogram_quantile(0.5, sum by (le) (rate(penstock_step_seconds_bucket[5m])))", rows))
