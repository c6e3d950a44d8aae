"""The commands that make the parts scriptable."""

import json
import os
import pathlib
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
