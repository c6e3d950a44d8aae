"""The commands that make the parts scriptable."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from conftest import BINARY, DEMO, ROOT, SANITIZED

SHARED = pathlib.Path(os.environ.get("PENSTOCK_SHARED_DATA", ROOT / "../shared/data"))


def run(*arguments, **keywords):
    return subprocess.run(
        [BINARY, *arguments], capture_output=True, text=True, timeout=500, **keywords
    )


def test_version():
    assert run("version").stdout.startswith("penstock ")
    assert re.search(r"^cuda: (no|\d+\.\d+)$", run("version").stdout, re.M)


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_build(tmp_path):
    source, out = tmp_path / "source", tmp_path / "build_commit.cc"
    source.mkdir()

    def built():
        script = ROOT / "cmake/BuildCommit.cmake"
        subprocess.run(["cmake", f"-DSOURCE={source}", f"-DOUT={out}", "-P", script], check=True)
        return re.search('return "(.*)";', out.read_text())[1]

    assert built() == "unknown"
    git(source, "init", "-q")
    assert built() == "unknown", "nothing is committed"
    for text in ("one", "two"):
        (source / "file").write_text(text)
        git(source, "add", "file")
        git(source, "commit", "-qm", text)
        git(source, "tag", text)
        assert built() == git(source, "rev-parse", "HEAD")[:12]
    before = out.stat().st_mtime_ns
    built()
    assert out.stat().st_mtime_ns == before, "nothing compiles where nothing changed"
    (source / "file").write_text("three")
    assert built() == git(source, "rev-parse", "HEAD")[:12] + "-dirty"
    inner = source / "unpacked"
    inner.mkdir()
    source = inner
    assert built() == "unknown", "of another's repository"


def test_the_version_has_the_commit_of_the_checkout():
    if ROOT not in pathlib.Path(BINARY).resolve().parents or not (ROOT / ".git").exists():
        pytest.skip("the program was not built in a checkout")
    moves = ROOT / git(ROOT, "rev-parse", "--git-path", "logs/HEAD")
    if not moves.exists() or moves.stat().st_mtime >= pathlib.Path(BINARY).stat().st_mtime:
        pytest.skip("the checkout has moved since the program was built")
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).returncode != 0:
        pytest.skip("git does not read this checkout")
    commit = re.search("^commit: (.*)$", run("version").stdout, re.M)[1]
    assert commit.removesuffix("-dirty") == git(ROOT, "rev-parse", "HEAD")[:12]


def test_usage_errors_exit_1():
    assert run("serve", "--no-such-flag").returncode == 1
    assert run().returncode == 1
    assert run("--help").returncode == 0


def test_the_committed_reference_is_the_generated_one():
    assert (
        run("check-config", "--reference").stdout == (ROOT / "configs/reference.yaml").read_text()
    )
    assert run("check-config", str(ROOT / "configs/reference.yaml")).returncode == 0
    assert run("check-config", "--api").stdout == (ROOT / "docs/api.md").read_text()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_demo_model_is_its_reference(dtype):
    result = run("check-model", DEMO, "--dtype", dtype, "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0 and report["passed"], result.stdout
    assert {r["way"] for r in report["results"]} == {
        "whole",
        "chunk1",
        "chunk7",
        "chunk16",
        "batched",
        "prefix_hit",
        "preempted",
    }
    assert all(r["same_bits"] for r in report["results"])


def test_another_model_is_not(tmp_path):
    for name in ("config.json", "model.safetensors", "golden.safetensors"):
        (tmp_path / name).write_bytes((pathlib.Path(DEMO) / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["rms_norm_eps"] = 1e-2
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run("check-model", str(tmp_path)).returncode == 2


def test_tokenize():
    lines = '{"text": "The old house"}\nnot json\n{"text": ""}\n'
    result = run("tokenize", "--tokenizer", DEMO + "/tokenizer.json", input=lines)
    first, second, third = (json.loads(line) for line in result.stdout.splitlines())
    assert first["decoded"] == "The old house" and set(first) == {
        "ids",
        "ids_special",
        "decoded",
        "decoded_skip",
    }
    assert "error" in second
    assert third["ids"] == []


def test_render_chat():
    case = {
        "template": "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}",
        "now": "2026-01-02",
        "context": {"messages": [{"role": "user", "content": "Hi"}]},
    }
    broken = {**case, "template": "{{ raise_exception('no') }}"}
    result = run("render-chat", input=json.dumps(case) + "\n" + json.dumps(broken) + "\n")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first == {"text": "[user]Hi"}
    assert "no" in second["error"]


@pytest.mark.skipif(not SHARED.exists(), reason="no shared reference data")
@pytest.mark.parametrize(
    "family", ["llama", "llama3_rope", "llama_bias", "mistral_swa", "qwen2", "qwen3"]
)
def test_families_are_their_references(family):
    for dtype in ["float32"] if SANITIZED else ["float32", "bfloat16"]:
        result = run("check-model", str(SHARED / "models/families" / family), "--dtype", dtype)
        assert result.returncode == 0, result.stdout
