"""The server on other devices than the CPU: the emulated GPU answers as the CPU does, and a machine
without a GPU says so."""

import json
import subprocess

import openai
import pytest
from conftest import BINARY, DEMO, ROOT, SANITIZED
from lora_adapters import make_adapter


def run(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=120)


# Small: the emulator keeps what it knows of every byte.
SMALL = ["--set", "engine.kv_memory=2MiB", "--set", "engine.max_batch=2",
         "--set", "engine.max_step_tokens=32", "--max-model-len", "128", "--dtype", "bfloat16"]


def ask(server, **sampling):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    answer = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "Tell me of the sea."}],
        max_tokens=3,
        logprobs=True,
        top_logprobs=2,
        extra_body={"ignore_eos": True},
        **sampling,
    )
    return answer.choices[0].logprobs.content


@pytest.mark.skipif(SANITIZED, reason="the emulator is ten times slower under a sanitizer")
def test_the_emulated_gpu_answers_as_the_cpu_does(serve):
    probe = run("check-model", DEMO, "--device", "cuda-emulated", "--golden", "/nowhere")
    if probe.returncode == 4:
        pytest.skip(probe.stderr)
    cpu = serve(*SMALL)
    gpu = serve(*SMALL, "--device", "cuda-emulated")
    for sampling in (dict(temperature=0), dict(temperature=1, seed=7, top_p=0.9)):
        expected = ask(cpu, **sampling)
        got = ask(gpu, **sampling)
        assert [t.token for t in got] == [t.token for t in expected]
        for a, b in zip(got, expected):
            assert a.logprob == pytest.approx(b.logprob, abs=0.1)  # of bfloat16
            assert len(a.top_logprobs) == 2


@pytest.fixture
def emulated():
    """The flag of a device that this build may lack."""
    probe = run("check-model", DEMO, "--device", "cuda-emulated", "--golden", "/nowhere")
    if probe.returncode == 4 or SANITIZED:
        pytest.skip(probe.stderr)
    return ["--device", "cuda-emulated"]


def test_the_emulated_gpu_embeds_as_the_reference(serve, emulated):
    folder = ROOT / "tests/goldens/encoders/bert"
    server = serve(*emulated, "--dtype", "float16", model=str(folder))
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    rows = json.loads((folder / "golden.json").read_text())["texts"][:3]
    answer = client.embeddings.create(model="bert", input=[row["text"] for row in rows])
    for row, got in zip(rows, answer.data):
        assert got.embedding == pytest.approx(row["embedding"], abs=0.01)  # of float16


def test_adapters_load_beside_the_steps_of_the_emulated_gpu(serve, emulated, tmp_path):
    folder = tmp_path / "adapters"
    folder.mkdir()
    make_adapter(folder / "one", 1, rank=4)
    config = tmp_path / "penstock.yaml"
    lora = {"dir": str(folder), "max_host_adapters": 2, "max_adapters": 2, "max_rank": 8}
    config.write_text(json.dumps({"models": {"demo": {"path": DEMO, "lora": lora}}}))
    small = ["--config", str(config), "--set", "engine.kv_memory=6MiB"]
    small += ["--set", "engine.max_batch=2", "--set", "engine.max_step_tokens=32"]
    small += ["--set", "engine.max_len=128", "--set", "engine.dtype=bfloat16"]
    answers = {}
    for device in (["--device", "cpu"], emulated):
        server = serve(*small, "--set", f"engine.device={device[1]}", model=None)
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        for model in ("demo", "one"):
            answer = client.completions.create(
                model=model, prompt="The sea", max_tokens=2, temperature=0, logprobs=0,
                extra_body={"ignore_eos": True},
            )
            answers[device[1], model] = answer.choices[0].logprobs
    for model in ("demo", "one"):
        cpu, gpu = answers["cpu", model], answers["cuda-emulated", model]
        assert gpu.tokens == cpu.tokens
        assert gpu.token_logprobs == pytest.approx(cpu.token_logprobs, abs=0.1)  # of bfloat16
    assert answers["cpu", "one"].token_logprobs != pytest.approx(
        answers["cpu", "demo"].token_logprobs, abs=0.3
    )


def test_a_machine_without_a_gpu_says_so_and_auto_takes_the_cpu(serve):
    checked = run("check-model", DEMO, "--device", "cuda")
    if checked.returncode != 4:
        pytest.skip("there is a GPU")
    lines = checked.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("penstock: device cuda: "), lines
    assert "device: cpu" in lines[0]
    served = run("serve", DEMO, "--device", "cuda", "--port", "0")
    assert served.returncode == 1
    errors = [line for line in served.stderr.splitlines() if line.startswith("penstock: ")]
    assert len(errors) == 1 and "device cuda: " in errors[0], served.stderr
    server = serve("--device", "auto")
    [line] = server.logged(message="model ready")
    assert "cuda" not in line["kernels"]


def test_float16_is_a_gpus_alone():
    flags = ["--dtype", "float16", "--golden", "/nowhere"]
    on_cpu = run("serve", DEMO, "--device", "cpu", "--dtype", "float16", "--port", "0")
    assert on_cpu.returncode == 1
    assert "computes in float32 or bfloat16, not in float16" in on_cpu.stderr
    emulated = run("check-model", DEMO, "--device", "cuda-emulated", *flags)
    if emulated.returncode != 4:  # there is one: it gets as far as the logits
        assert "/nowhere" in emulated.stderr and "float16" not in emulated.stderr


# `auto` is what a measurement of this moment finds faster: two processes may find differently.
@pytest.mark.parametrize("quantize, cache", [("none", "float32"), ("int4", "bfloat16")])
def test_a_plan_is_what_serving_takes(serve, quantize, cache):
    flags = ["--set", "engine.kv_memory=24MiB", "--set", f"engine.quantize={quantize}"]
    flags += ["--set", "engine.dtype=float32", "--set", f"engine.kv_dtype={cache}"]
    planned = run("plan", DEMO, "--set", "engine.device=cpu", "--json", *flags)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)["demo"]
    server = serve("--device", "cpu", *flags)
    (ready,) = server.logged(message="model ready")
    assert plan["at_start_bytes"] == pytest.approx(ready["device_bytes"], rel=0.01)
    assert plan["kv_tokens"] == ready["kv_tokens"]
    assert plan["max_len"] == ready["max_len"]
    assert plan["sequences"] == ready["kv_tokens"] // ready["max_len"]


def test_a_plan_for_a_gpu_needs_none():
    flags = ["--json", "--set", "engine.device=cuda:0", "--set", "engine.max_batch=4096"]
    flags += ["--set", "engine.max_step_tokens=4096"]
    all_of_it = json.loads(run("plan", DEMO, "--gpu-memory", "8GiB", *flags).stdout)["demo"]
    part = ["--set", "engine.memory_fraction=0.5"]
    half = json.loads(run("plan", DEMO, "--gpu-memory", "8GiB", *part, *flags).stdout)["demo"]
    for plan, share in ((all_of_it, 0.9), (half, 0.5)):
        assert plan["device"] == "cuda:0"
        assert plan["total_bytes"] == pytest.approx(share * (8 << 30), rel=0.02)
        assert plan["total_bytes"] == plan["at_start_bytes"] + plan["step_bytes"]
    half = json.loads(run("plan", DEMO, "--gpu-memory", "8GiB", "--set", "engine.dtype=float16", *flags).stdout)
    assert half["demo"]["total_bytes"] == all_of_it["total_bytes"]
    refused = run("plan", DEMO, "--set", "engine.memory_fraction=1.5")
    assert refused.returncode == 1 and "memory_fraction" in refused.stderr
