"""A second tier of the prefix cache: a conversation that the cache had no room for comes back."""

import json
import subprocess
import urllib.request

import pytest
from conftest import BINARY, DEMO, DEVICE

pytestmark = pytest.mark.skipif(DEVICE is not None, reason="prompts of a hundred tokens and more")
# 16 blocks of 16 positions, 64 KiB each in float32, for requests of 256.
SMALL = ["--max-model-len", "256", "--set", "engine.kv_dtype=float32", "--set", "engine.kv_memory=1MiB"]


def ask(server, kind, prompt_tokens=200):
    """(text, tokens of the prompt that were found)"""
    body = {"model": "demo", "prompt": [(kind * 37 + t * 11) % 500 + 20 for t in range(prompt_tokens)],
            "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    answer = json.loads(urllib.request.urlopen(request, timeout=60).read())
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize("place,depth", [("memory", 1), ("disk", 2)])
def test_a_conversation_comes_back(serve, tmp_path, place, depth):
    folder = tmp_path / "tier"
    folder.mkdir()
    server = serve(*SMALL, "--set", "engine.kv_offload=8MiB", "--set", f"engine.pipeline_depth={depth}",
                   *(["--set", f"engine.kv_offload_path={folder}"] if place == "disk" else []))
    (ready,) = server.logged(message="model ready")
    assert ready["kv_offload_mib"] in (7, 8)
    first, found = ask(server, 1)
    assert found == 0
    for kind in range(2, 6):  # each as large as the cache
        assert ask(server, kind)[1] == 0
    again, found = ask(server, 1)
    assert (again, found) == (first, 192)
    assert server.metric("vllm:external_prefix_cache_hits_total") == 192
    assert server.metric("vllm:external_prefix_cache_queries_total") == 6 * 200
    assert server.metric("vllm:prefix_cache_hits_total") == 0
    assert server.metric("vllm:prompt_tokens_cached_total") == 192
    assert server.metric("penstock_kv_offload_moves_total", move="imported") == 12
    assert server.metric("penstock_kv_offload_moves_total", move="exported") >= 48
    assert server.metric("penstock_kv_offload_bytes_total", move="imported") == 12 * 65536
    for move in ("exported", "imported"):
        assert server.metric("penstock_kv_offload_seconds_total", move=move) > 0
    assert server.metric("penstock_kv_offload_blocks", state="used") >= 48
    assert list(folder.iterdir()) == []  # the file has no name


def test_without_one_it_is_computed_again(serve):
    server = serve(*SMALL)
    first, _ = ask(server, 1)
    for kind in range(2, 6):
        ask(server, kind)
    assert ask(server, 1) == (first, 0)
    assert server.metric("vllm:external_prefix_cache_queries_total") == 0


@pytest.mark.parametrize("settings,told", [
    (["kv_offload=8MiB", "kv_offload_path=/nowhere"], "engine.kv_offload_path: /nowhere: No such file"),
    (["kv_offload=8MiB", f"kv_offload_path={DEMO}/config.json"], "expected a folder"),
    (["kv_offload=8MiB", "kv_offload_path=/proc"], "no file can be made there"),
    (["kv_offload=900000TiB", "kv_offload_path=/tmp"], "no room for the"),
    (["kv_offload=900000TiB"], "engine.kv_offload is"),
    (["kv_offload=1000"], "engine.kv_offload is 1000 bytes, expected at least"),
    (["kv_offload=8MiB", "prefix_cache=false"], "engine.kv_offload: expected prefix_cache: true"),
    (["kv_offload_path=/tmp"], "engine.kv_offload_path: expected the bytes"),
    (["kv_offload=8MiB", "tensor_parallel=2"], "engine.tensor_parallel: 2 is not served with kv_offload"),
])
def test_what_cannot_be_had_ends_the_start(settings, told):
    command = [BINARY, "serve", DEMO, "--port", "0", *SMALL]
    for setting in settings:
        command += ["--set", f"engine.{setting}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and told in ended.stderr, ended.stderr


def test_a_model_with_a_draft_model_has_none_and_says_so(serve):
    server = serve(*SMALL, "--set", "engine.kv_offload=8MiB", "--set", "engine.speculation.method=draft",
                   "--set", f"engine.speculation.draft_model={DEMO}", "--set", "engine.kv_memory=4MiB")
    (line,) = server.logged(message="no second tier of the prefix cache (engine.kv_offload)")
    assert line["why"] == "what guesses for the model has blocks of its own"
    assert server.logged(message="model ready")[0]["kv_offload_mib"] == 0


def test_the_plan_counts_it():
    def plan(*settings):
        command = [BINARY, "plan", DEMO, "--json", "--set", "engine.kv_memory=16MiB"]
        for setting in settings:
            command += ["--set", f"engine.{setting}"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["demo"]

    without, memory = plan(), plan("kv_offload=64MiB")
    assert without["kv_offload_bytes"] == 0 and 60 << 20 < memory["kv_offload_bytes"] <= 64 << 20
    assert memory["total_bytes"] - without["total_bytes"] == memory["kv_offload_bytes"]
    assert plan("kv_offload=64MiB", "kv_offload_path=/tmp")["total_bytes"] == without["total_bytes"]
