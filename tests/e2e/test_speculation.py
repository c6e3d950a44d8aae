"""A draft model beside the demo, and heads of a checkpoint: the same answers, counted guesses."""

import concurrent.futures
import json
import pathlib
import shutil
import subprocess
import urllib.request

import numpy as np
import pytest
from conftest import BINARY, DEMO
from lora_adapters import read_safetensors, write_safetensors
from test_lifecycle import fails, run

FAMILIES = pathlib.Path(__file__).parents[1] / "goldens" / "families"
DRAFT = ("--set", "engine.speculation.method=draft", "--set", f"engine.speculation.draft_model={DEMO}")


def complete(server, i, model="demo"):
    body = {
        "model": model,
        "prompt": f"Once upon a time number {i % 3} there was",
        "max_tokens": 24 + i,
        "temperature": 0.8 * (i % 2),
        "seed": i,
        "ignore_eos": True,
    }
    request = urllib.request.Request(
        server.url + "/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())["choices"][0]["text"]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_draft_model_changes_no_answer(serve, depth):
    # Each server measures which kernels are fastest, and other kernels round otherwise.
    alike = ("--set", f"engine.pipeline_depth={depth}", "--set", "engine.cpu_kernels=avx2")
    plain = serve("--set", "engine.speculation.method=off", *alike)
    drafted = serve(*DRAFT, *alike)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        expected = list(pool.map(lambda i: complete(plain, i), range(16)))
        answers = list(pool.map(lambda i: complete(drafted, i), range(16)))
    assert answers == expected
    # The demo guesses for itself here, so nearly all guesses are right.
    guesses = drafted.metric("vllm:spec_decode_num_draft_tokens_total")
    right = drafted.metric("vllm:spec_decode_num_accepted_tokens_total")
    assert guesses > 0 and right > 0.95 * guesses
    drafted.until(lambda: drafted.metric("vllm:kv_cache_usage_perc") == 0)


def test_a_draft_model_that_is_not_there_is_named():
    draft = "engine.speculation.draft_model"
    method = ("--set", "engine.speculation.method=draft")
    fails(run("serve", DEMO, *method), draft, "expected a model")
    fails(run("serve", DEMO, "--set", f"{draft}={DEMO}"), draft, "expected none")
    # A model may come behind a --set: each takes one assignment.
    fails(run("serve", *method, "--set", f"{draft}=/nowhere", DEMO), draft, "/nowhere")


def model_with_a_head(folder, family):
    """A tiny model for weights that are a formula, with the demo's tokenizer."""
    folder.mkdir()
    for file in pathlib.Path(DEMO).iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, folder)
    config = json.loads((FAMILIES / family / "config.json").read_text())
    config["vocab_size"] = json.loads((pathlib.Path(DEMO) / "config.json").read_text())["vocab_size"]
    config["max_position_embeddings"] = 512
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe", "qwen3_5"])
def test_a_prediction_head_changes_no_answer(serve, tmp_path, family):
    folder = model_with_a_head(tmp_path / "model", family)
    alike = ("--set", f"models.tiny.path={folder}", "--set", "models.tiny.weights=formula",
             "--set", "engine.cpu_kernels=avx2")
    servers = [serve("--set", f"engine.speculation.method={method}", *alike, model=None) for method in ("off", "mtp")]
    plain, drafted = servers
    answers = []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for server in servers:
            answers.append(list(pool.map(lambda i, s=server: complete(s, i, model="tiny"), range(16))))
    assert answers[0] == answers[1]
    assert plain.metric("vllm:spec_decode_num_draft_tokens_total") == 0
    assert drafted.metric("vllm:spec_decode_num_draft_tokens_total") > 0
    drafted.logged(message="the checkpoint's prediction head is loaded, to guess", model="tiny")
    drafted.until(lambda: drafted.metric("vllm:kv_cache_usage_perc") == 0)


def demo_with_a_head(folder):
    """The demo's weights as a GLM 4.5 of dense layers, with a head that knows no more than the embedding."""
    folder.mkdir()
    for file in pathlib.Path(DEMO).glob("*.json"):
        shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text())
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    config |= {"architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "partial_rotary_factor": 1.0,
               "first_k_dense_replace": layers, "n_routed_experts": 2, "num_experts_per_tok": 1,
               "moe_intermediate_size": 16, "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = read_safetensors(pathlib.Path(DEMO) / "model.safetensors")
    last, head = f"model.layers.{layers - 1}.", f"model.layers.{layers}."
    tensors |= {head + name[len(last):]: values for name, values in tensors.items() if name.startswith(last)}
    for norm in ("enorm", "hnorm", "shared_head.norm"):
        tensors[f"{head}{norm}.weight"] = tensors["model.norm.weight"]
    tensors[head + "eh_proj.weight"] = np.concatenate([np.eye(hidden), 0.5 * np.eye(hidden)], axis=1)
    tensors[head + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_a_prediction_head_guesses_without_being_asked_for(serve, tmp_path):
    folder = demo_with_a_head(tmp_path / "headed")
    alike = ("--set", "engine.cpu_kernels=avx2")
    answers = []
    for method in ("off", "auto"):
        server = serve("--set", f"engine.speculation.method={method}", *alike, model=str(folder))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers.append(list(pool.map(lambda i, s=server: complete(s, i, model="headed"), range(16))))
        guessed = server.metric("vllm:spec_decode_num_draft_tokens_total") > 0
        assert guessed == (method == "auto")
        line = ("the checkpoint's prediction head is loaded, to guess" if guessed
                else "prediction layers of the checkpoint are not used")
        assert server.logged(message=line, model="headed")
    assert answers[0] == answers[1]
    inspected = subprocess.run([BINARY, "inspect", str(folder), "--json"], capture_output=True, text=True, check=True)
    report = json.loads(inspected.stdout)
    assert report["prediction_head"] == "guesses" and report["ignored"] == {}


def test_a_cache_without_room_for_guesses_is_an_error_only_where_they_are_asked_for(serve, tmp_path):
    """2048 positions of the demo are 4 MiB, of a layer more 5."""
    folder = demo_with_a_head(tmp_path / "headed")
    tight = ("--set", "engine.kv_memory=4MiB", "--set", "engine.kv_dtype=bfloat16")
    server = serve(*tight, model=str(folder))
    assert complete(server, 3, model="headed")
    assert server.metric("vllm:spec_decode_num_draft_tokens_total") == 0
    server.logged(message="the checkpoint's prediction head does not guess: engine.kv_memory is too small")
    fails(run("serve", str(folder), *tight, "--set", "engine.speculation.method=mtp"), "kv_memory is")


def test_a_prediction_head_that_is_not_there_is_an_error_where_it_is_asked_for():
    mtp = ("--set", "engine.speculation.method=mtp")
    fails(run("serve", DEMO, *mtp), "engine.speculation.method: mtp", "no prediction head")
