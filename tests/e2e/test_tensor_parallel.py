"""A model whose layers several ranks share: the same answers over the same wires, metrics that are
true, a clear refusal of what it is not served with, and the end of a server whose rank stands still."""

import ctypes
import json
import os
import pathlib
import subprocess
import threading

import openai
import pytest
from conftest import BINARY, DEMO

# What every server here computes with: the same bits whatever the machine is busy with.
ALIKE = ["--set", "engine.dtype=float32", "--set", "engine.cpu_kernels=avx2", "--set", "engine.kv_memory=32MiB"]
CHAT = [{"role": "user", "content": "Tell me of the sea."}]


def client(server, **more):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, **more)


def tell(server, **sampling):
    answer = client(server).chat.completions.create(
        model="demo", messages=CHAT, max_tokens=40, logprobs=True, top_logprobs=2, **sampling)
    return answer.choices[0].logprobs.content


@pytest.mark.parametrize("ranks", [2, 4])
def test_answers_are_those_of_one_rank(serve, ranks):
    one = serve(*ALIKE)
    shared = serve(*ALIKE, "--tp", str(ranks))
    for sampling in (dict(temperature=0), dict(temperature=1, seed=7, top_p=0.9)):
        expected = tell(one, **sampling)
        got = tell(shared, **sampling)
        assert [t.token for t in got] == [t.token for t in expected]
        for a, b in zip(got, expected):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3)


@pytest.mark.parametrize("depth", [1, 2])
def test_many_streams_at_once_are_what_each_is_alone(serve, depth):
    server = serve(*ALIKE, "--tensor-parallel-size", "2", "--set", f"engine.pipeline_depth={depth}")
    prompts = [f"The {word} was" for word in ("sea", "night", "king", "house", "old man", "road")]

    def stream(prompt):
        pieces = client(server).completions.create(
            model="demo", prompt=prompt, max_tokens=32, temperature=0, stream=True,
            extra_body={"ignore_eos": True})
        return "".join(piece.choices[0].text for piece in pieces if piece.choices)

    alone = {prompt: stream(prompt) for prompt in prompts}
    together = {}
    threads = [threading.Thread(target=lambda p=prompt: together.update({p: stream(p)})) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert together == alone
    assert all(alone.values())


def test_metrics_and_plan_count_all_ranks(serve):
    one = serve(*ALIKE)
    shared = serve(*ALIKE, "--tp", "2")
    tell(shared, temperature=0)
    blocks = [[key for key in server.metrics() if key.startswith("vllm:cache_config_info")] for server in (one, shared)]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 1  # as many blocks of as many positions
    assert shared.metric("vllm:generation_tokens_total") > 0
    ready = shared.logged(message="model ready")[0]
    assert ready["ranks"] == 2
    threads = [path.read_text().strip() for path in pathlib.Path(f"/proc/{shared.process.pid}/task").glob("*/comm")]
    assert sorted(name for name in threads if name.startswith("rank-")) == ["rank-0", "rank-1"]

    def plan(ranks):
        made = subprocess.run([BINARY, "plan", DEMO, *ALIKE, "--set",
                               f"engine.tensor_parallel={ranks}", "--json"],
                              capture_output=True, text=True, timeout=120, check=True)
        return json.loads(made.stdout)["demo"]

    whole, halves = plan(1), plan(2)
    assert (whole["ranks"], halves["ranks"]) == (1, 2)
    assert halves["kv_tokens"] == whole["kv_tokens"] and halves["kv_bytes"] == whole["kv_bytes"]
    assert halves["weights_bytes"] < 1.25 * whole["weights_bytes"]


def test_ranks_of_the_emulated_device_answer_as_one_does_and_a_plan_says_what_each_takes(serve):
    probe = subprocess.run([BINARY, "check-model", DEMO, "--device", "cuda-emulated", "--golden", "/nowhere"],
                           capture_output=True, text=True, timeout=120)
    if probe.returncode == 4:
        pytest.skip(probe.stderr)
    settings = ["--device", "cuda-emulated", "--set", "engine.kv_memory=16MiB", "--set", "engine.max_len=128",
                "--set", "engine.max_batch=4"]

    def complete(*more):
        server = serve(*settings, *more)
        answers = [client(server, timeout=300).completions.create(
            model="demo", prompt=prompt, max_tokens=3, temperature=0, logprobs=1).choices[0].logprobs.token_logprobs
            for prompt in ("The sea", "Once upon a time")]
        return answers, server.logged(message="model ready")[0]

    one, _ = complete()
    shared, ready = complete("--tp", "2")
    assert ready["ranks"] == 2
    for a, b in zip(one, shared):
        assert a[0] == pytest.approx(b[0], abs=0.1)  # of bfloat16
    made = subprocess.run([BINARY, "plan", DEMO, "--set", "engine.device=cuda-emulated", *settings[2:], "--set",
                           "engine.tensor_parallel=2", "--json"],
                          capture_output=True, text=True, timeout=120, check=True)
    plan = json.loads(made.stdout)["demo"]
    assert plan["at_start_bytes"] == pytest.approx(ready["device_bytes"], rel=0.01)
    assert plan["total_bytes"] / 2 < plan["rank_bytes"] < plan["total_bytes"]


@pytest.mark.parametrize("more, reason", [
    (["--tp", "3"], "8 heads and 4 KV heads do not divide among 3 ranks"),
    (["--tp", "2", "--set", "engine.packed_cache=/tmp"], "engine.tensor_parallel: 2 is not served with packed_cache"),
    (["--tp", "2", "--lora-dir", "/tmp"], "engine.tensor_parallel: 2 is not served with lora"),
    (["--tp", "2", "--set", "engine.speculation.method=draft", "--set", f"engine.speculation.draft_model={DEMO}"],
     "engine.tensor_parallel: 2 is not served with speculation.method: draft"),
    (["--tp", "2", "--set", "engine.speculation.method=mtp"],
     "engine.tensor_parallel: 2 is not served with speculation.method: mtp"),
    (["--tp", "9"], "9"),
])
def test_what_it_is_not_served_with_is_said_at_the_start(more, reason):
    ended = subprocess.run([BINARY, "serve", DEMO, "--port", "0", "--grpc-port", "0", *more],
                           capture_output=True, text=True, timeout=120)
    assert ended.returncode not in (0, 70), ended
    assert reason in ended.stdout + ended.stderr, ended


PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207


def thread_of(pid, name):
    """The number of a child's thread."""
    [tid] = [int(task.name) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
             if (task / "comm").read_text().strip() == name]
    return tid


def stop_thread(tid):
    """Stops one thread of a child, as nothing within it could."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, tid, None, None) != 0:
            pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")


def has_ended(process, stopped):
    """Whether a process has ended whose stopped thread is this one's to bury."""
    try:
        os.waitpid(stopped, os.WNOHANG | 0x40000000)  # __WALL
    except ChildProcessError:
        pass
    return process.poll() is not None


def test_a_rank_that_stands_still_ends_its_requests_and_the_server(serve):
    server = serve(*ALIKE, "--tp", "2")
    begun, ended = threading.Event(), []

    def ask():
        try:
            pieces = client(server, timeout=120).completions.create(
                model="demo", prompt="The sea was", max_tokens=1900, n=16, temperature=1, stream=True,
                extra_body={"ignore_eos": True})
            for _ in pieces:
                begun.set()
            ended.append(None)
        except openai.APIError as error:
            ended.append(error)

    rank = thread_of(server.process.pid, "rank-1")
    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(60)
    stop_thread(rank)
    thread.join(120)
    assert len(ended) == 1 and ended[0] is not None, "the stream ended as if nothing had happened"
    server.until(lambda: has_ended(server.process, rank), 120)
    assert server.process.returncode == 70, server.log
    last = [line for line in server.log_lines() if "a new one is needed" in line["message"]]
    assert len(last) == 1 and "the engine has failed" in last[0]["error"], server.log
    told = [line for line in server.log_lines() if line["message"] == "request"]
    assert "device fault: rank 1 of 2 has stalled" in told[0]["error"], server.log
    server.stop = lambda *a, **k: 0  # it has ended as it should
