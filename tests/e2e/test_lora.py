"""Low-rank adapters of the demo model: from the configuration, on demand, at run time; beside one another."""

import concurrent.futures
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from conftest import DEMO, SANITIZED
from lora_adapters import make_adapter, merge
from test_lifecycle import fails, run

# Each server measures which kernels are fastest, and other kernels round otherwise.
ALIKE = "  engine: {dtype: float32, cpu_kernels: avx2, %s}\n"
DRAFTED = f"pipeline_depth: 2, speculation: {{method: draft, draft_model: {DEMO}}}"
PROMPTS = [f"{start} number {i}" for i, start in enumerate(["The old house", "A night by the sea"] * 4)]


def post(server, path, body, timeout=120):
    """(status, JSON or text)"""
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith("{") else text
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def complete(server, model, prompt, **more):
    body = {"model": model, "prompt": prompt, "max_tokens": 32, "temperature": 0, "ignore_eos": True}
    status, answer = post(server, "/v1/completions", {**body, **more})
    assert status == 200, answer
    return answer["choices"][0]["text"]


def refused(server, path, body, status, *words):
    got, answer = post(server, path, body)
    assert got == status, answer
    for word in words:
        assert word in answer["error"]["message"], answer
    return answer["error"]


def configure(tmp_path, lora, engine="pipeline_depth: 1"):
    path = tmp_path / "penstock.yaml"
    path.write_text(f"models:\n demo:\n  path: {DEMO}\n  lora: {json.dumps(lora)}\n" + ALIKE % engine)
    return "--config", str(path)


@pytest.fixture
def adapters(tmp_path):
    """A folder with adapters `one`, `two` and, of the head too, `three`; name -> what each adds to the weights."""
    folder = tmp_path / "adapters"
    folder.mkdir()
    return folder, {name: make_adapter(folder / name, i, rank=4 * (i + 1), head=name == "three")
                    for i, name in enumerate(["one", "two", "three"])}


@pytest.mark.parametrize("engine", ["pipeline_depth: 1", "pipeline_depth: 2", DRAFTED])
def test_adapters_answer_as_the_models_they_were_merged_into(serve, tmp_path, adapters, engine):
    folder, deltas = adapters
    lora = {"adapters": {name: str(folder / name) for name in ("one", "two")}, "dir": str(folder)}
    server = serve(*configure(tmp_path, lora, engine), model=None)
    plain = serve("--set", "engine.dtype=float32", "--set", "engine.cpu_kernels=avx2")
    expected = {("demo", p): complete(plain, "demo", p) for p in PROMPTS}
    for name in ("one", "two", "three"):
        merged = serve("--set", "engine.dtype=float32", "--set", "engine.cpu_kernels=avx2",
                       model=merge(tmp_path / f"merged-{name}", deltas[name]))
        expected.update({(name, p): complete(merged, f"merged-{name}", p) for p in PROMPTS})
        merged.stop()
    assert len({tuple(expected[m, p] for p in PROMPTS) for m in ("demo", *deltas)}) == 4
    # Alone, then all at once.
    alone = {key: complete(server, *key) for key in expected}
    with concurrent.futures.ThreadPoolExecutor(len(expected)) as pool:
        together = dict(zip(expected, pool.map(lambda key: complete(server, *key), expected)))
    assert together == alone
    assert {key: text for key, text in alone.items() if key[0] == "demo"} == {
        key: text for key, text in expected.items() if key[0] == "demo"
    }
    # Sums are in another order where the weights are merged: a tie may fall the other way.
    agree = sum(alone[key] == expected[key] for key in expected)
    assert agree >= 0.85 * len(expected), [k for k in expected if alone[k] != expected[k]]


def test_models_are_listed_with_their_parent_and_metrics_name_adapters(serve, tmp_path, adapters):
    folder, _ = adapters
    server = serve(*configure(tmp_path, {"adapters": {"one": str(folder / "one")},
                                         "dir": str(folder), "max_adapters": 3}), model=None)
    listed = json.loads(server.get("/v1/models"))["data"]
    assert [(m["id"], m["parent"]) for m in listed] == [("demo", None), ("one", "demo")]
    assert complete(server, "two", "The sea")
    listed = json.loads(server.get("/v1/models"))["data"]
    assert [(m["id"], m["parent"]) for m in listed][1:] == [("one", "demo"), ("two", "demo")]
    assert json.loads(server.get("/v1/models/two"))["parent"] == "demo"
    # Without a name the only model is meant, whatever adapters it has.
    assert post(server, "/v1/completions", {"prompt": "The sea", "max_tokens": 2})[0] == 200
    status, chat = post(server, "/v1/chat/completions", {
        "model": "one", "max_tokens": 8, "messages": [{"role": "user", "content": "The sea?"}]})
    assert status == 200 and chat["model"] == "one"
    stop = threading.Event()

    def stream():
        while not stop.is_set():
            complete(server, "two", "On and on", max_tokens=1000)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        server.until(lambda: any(
            k.startswith("vllm:lora_requests_info") and 'running_lora_adapters="two"' in k
            and 'max_lora="3"' in k for k in server.metrics()))
    finally:
        stop.set()
        thread.join()
    assert server.logged(message="adapter loaded", adapter="two")
    assert server.logged(message="request", model="one")


def test_loading_and_unloading_while_requests_run(serve, tmp_path, adapters):
    folder, _ = adapters
    server = serve(*configure(tmp_path, {"dir": str(folder), "allow_runtime": True}), model=None)
    status, text = post(server, "/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "one"})
    assert (status, text) == (200, "Success: LoRA adapter 'mine' added successfully.")
    refused(server, "/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "two"}, 400, "loaded already")
    first = complete(server, "mine", PROMPTS[0])
    assert first == complete(server, "one", PROMPTS[0])
    # Whoever is answered with it is answered to the end; the unload waits for that.
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    stream = client.completions.create(model="mine", prompt=PROMPTS[0], max_tokens=1800, temperature=0, stream=True,
                                       n=1 if SANITIZED else 8,
                                       extra_body={"ignore_eos": True})

    def of_the_first(chunks):
        return "".join(chunk.choices[0].text for chunk in chunks if chunk.choices[0].index == 0)

    text = of_the_first([next(stream)])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        unloaded = pool.submit(post, server, "/v1/unload_lora_adapter", {"lora_name": "mine"})
        another = {"model": "mine", "prompt": "x", "max_tokens": 1}
        server.until(lambda: post(server, "/v1/completions", another)[0] == 404)
        refused(server, "/v1/completions", another, 404, "does not exist")
        assert not unloaded.done()
        text += of_the_first(stream)
        assert text.startswith(first)
        assert unloaded.result() == (200, "Success: LoRA adapter 'mine' removed successfully.")
    # The name may mean another one now, which finds nothing of the old one in the prefix cache.
    assert post(server, "/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "two"})[0] == 200
    status, answer = post(server, "/v1/completions", {
        "model": "mine", "prompt": PROMPTS[0], "max_tokens": 32, "temperature": 0, "ignore_eos": True})
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert answer["choices"][0]["text"] == complete(server, "two", PROMPTS[0]) != first
    assert post(server, "/v1/load_lora_adapter",
                {"lora_name": "mine", "lora_path": str(folder / "one"), "load_inplace": True})[0] == 200
    assert complete(server, "mine", PROMPTS[0]) == first


def test_paths_stay_inside_the_folder(serve, tmp_path, adapters):
    folder, _ = adapters
    make_adapter(tmp_path / "outside", 7)
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "inside").symlink_to(folder / "one")
    stolen = folder / "stolen"
    stolen.mkdir()
    (stolen / "adapter_config.json").write_text((folder / "one/adapter_config.json").read_text())
    (stolen / "adapter_model.safetensors").symlink_to(tmp_path / "outside/adapter_model.safetensors")
    server = serve(*configure(tmp_path, {"dir": str(folder), "allow_runtime": True}), model=None)
    outside = [str(tmp_path / "outside"), "../outside", "link", "one/../../outside", "stolen", "", ".",
               "/etc", "one\0", "x" * 5000]
    for path in outside:
        refused(server, "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": path}, 404, "lora.dir")
        status, _ = post(server, "/v1/completions", {"model": path, "prompt": "x"})
        assert status == 404, path
    for name in ("one/", "./one", "two/../one", str(folder / "one")):  # one name for one adapter
        refused(server, "/v1/completions", {"model": name, "prompt": "x"}, 404)
    assert complete(server, "inside", PROMPTS[0]) == complete(server, "one", PROMPTS[0])


def test_clients_may_not_load_where_the_configuration_does_not_say_so(serve, tmp_path, adapters):
    folder, _ = adapters
    server = serve(*configure(tmp_path, {"dir": str(folder)}), model=None)
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        refused(server, path, {"lora_name": "one", "lora_path": "one"}, 403, "lora.allow_runtime")
    assert complete(server, "one", "The sea")  # on demand, all the same
    refused(server, "/v1/unload_lora_adapter", {"lora_name": "one"}, 403)
    plain = serve()
    refused(plain, "/v1/load_lora_adapter", {"lora_name": "one", "lora_path": "one"}, 403)


def test_operators_load_over_the_admin_socket_what_clients_may_not(serve, tmp_path, adapters):
    folder, _ = adapters
    path = tmp_path / "admin.sock"
    server = serve(*configure(tmp_path, {"dir": str(folder)}), "--set", f"server.admin.unix={path}",
                   model=None)

    def operate(route, body):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = link
            connection.request("POST", route, json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    assert operate("/v1/load_lora_adapter", {"lora_name": "one", "lora_path": "one"})[0] == 200
    assert complete(server, "one", "The sea")
    refused(server, "/v1/unload_lora_adapter", {"lora_name": "one"}, 403)
    assert operate("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "/etc"})[0] == 404
    assert operate("/v1/unload_lora_adapter", {"lora_name": "one"})[0] == 200


def test_bad_bodies_and_bad_adapters_are_named(serve, tmp_path, adapters):
    folder, _ = adapters
    make_adapter(folder / "wide", 5, rank=32)
    make_adapter(folder / "dora", 5, use_dora=True)
    (folder / "empty").mkdir()
    (folder / "empty/adapter_config.json").write_text("{}")
    (folder / "empty/adapter_model.safetensors").write_bytes(b"")
    server = serve(*configure(tmp_path, {"dir": str(folder), "allow_runtime": True}), model=None)
    load = "/v1/load_lora_adapter"
    assert refused(server, load, {"lora_path": "one"}, 400, "missing")["param"] == "lora_name"
    assert refused(server, load, {"lora_name": "x"}, 400, "missing")["param"] == "lora_path"
    refused(server, load, {"lora_name": 3, "lora_path": "one"}, 400, "string")
    refused(server, load, {"lora_name": "x", "lora_path": "one", "load_inplace": 1}, 400, "load_inplace")
    refused(server, load, {"lora_name": "", "lora_path": "one"}, 400, "lora_name")
    refused(server, load, {"lora_name": "demo", "lora_path": "one"}, 400, "model's already")
    refused(server, load, {"lora_name": "x", "lora_path": "one", "base_model_name": "y"}, 404, "y")
    refused(server, load, {"lora_name": "x", "lora_path": "wide"}, 400, "rank 32", "max_rank")
    refused(server, load, {"lora_name": "x", "lora_path": "dora"}, 400, "use_dora")
    error = refused(server, load, {"lora_name": "x", "lora_path": "empty"}, 400, "peft_type")
    assert str(folder) not in error["message"]
    refused(server, "/v1/completions", {"model": "wide", "prompt": "x"}, 400, "rank 32")
    refused(server, "/v1/unload_lora_adapter", {"lora_name": "nobody"}, 404, "nobody")
    assert [m["id"] for m in json.loads(server.get("/v1/models"))["data"]] == ["demo"]


def test_a_bad_configuration_is_refused_at_start(tmp_path, adapters):
    folder, _ = adapters
    make_adapter(folder / "dora", 5, use_dora=True)
    fails(run("serve", DEMO, "--lora", f"x={folder}/dora"), "lora.adapters.x", "use_dora")
    fails(run("serve", DEMO, "--lora", f"x={folder}/nowhere"), "lora.adapters.x", "adapter_config.json")
    fails(run("serve", DEMO, "--lora", "x"), "NAME=DIRECTORY")
    fails(run("serve", DEMO, "--lora", f"demo={folder}/one"), "demo", "taken")
    config = configure(tmp_path, {"dir": str(folder), "max_rank": 256, "max_host_adapters": 512})
    fails(run("serve", *config, "--set", "engine.kv_memory=16MiB"), "lora", "MiB", "kv_memory")
    config = configure(tmp_path, {"allow_runtime": True})
    fails(run("serve", *config), "lora.allow_runtime")


def test_the_least_recently_used_adapter_makes_room(serve, tmp_path, adapters):
    folder, _ = adapters
    names = ["one", "two", "three"] + [f"more{i}" for i in range(4)]
    for i, name in enumerate(names[3:]):
        make_adapter(folder / name, 20 + i)
    server = serve(*configure(tmp_path, {"dir": str(folder), "max_adapters": 2, "max_host_adapters": 2}),
                   model=None)
    alone = {name: complete(server, name, PROMPTS[1]) for name in names}
    server.logged(message="adapter loaded", adapter=names[-1])
    assert [line["adapter"] for line in server.logged(message="adapter evicted")] == names[:-2]
    # Everyone gets its own, also where they take turns; where all places are in use it is a 429.
    def ask(name):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            status, answer = post(server, "/v1/completions", {
                "model": name, "prompt": PROMPTS[1], "max_tokens": 32, "temperature": 0,
                "ignore_eos": True})
            if status == 200:
                return answer["choices"][0]["text"]
            assert status == 429, answer
            time.sleep(0.01)
        raise AssertionError(f"{name} never had a place")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, names * 4)) == [alone[name] for name in names] * 4
    server.until(lambda: server.metric("vllm:kv_cache_usage_perc") == 0)
