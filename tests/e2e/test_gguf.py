"""GGUF files that package `gguf` writes, judged by the reference logits of the checkpoints they come from."""

import json
import os
import pathlib
import subprocess
import sys

import openai
import pytest
from conftest import BINARY, ROOT, SANITIZED, Server

pytest.importorskip("gguf")
sys.path.insert(0, str(ROOT / "tests/goldens"))
import gguf_checkpoint  # noqa: E402

SHARED = pathlib.Path(os.environ.get("PENSTOCK_SHARED_DATA", ROOT / "../shared/data"))
DEMO = ROOT / "models/demo"
FAMILIES = [
    "llama",
    "llama3_rope",
    "llama_bias",
    "mistral_swa",
    "mixtral",
    "qwen2",
    "qwen2_yarn",
    "qwen3",
    "qwen2_moe",
    "qwen3_moe",
    "gemma2",
    "gemma3",
    "phi3",
    "gpt_oss",
    "olmo2",
    "olmo3",
    "exaone4",
    "olmoe",
    "glm4",
    "granite",
    "smollm3",
    "deepseek_v3",
    "glm4_moe",
    "ministral3",
    "cohere2",
    "gpt2",
    "qwen3_5",
    "gemma4",
]
KINDS = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16"]
if SANITIZED:  # such a build is slow, and what it looks for is in the reader: a few show it
    FAMILIES, KINDS = FAMILIES[:2], KINDS[:1]


def family(name):
    directory = SHARED / "models/families" / name
    if not directory.exists():
        pytest.skip(f"{directory} is not there")
    return directory


def check(file, directory):
    result = subprocess.run(
        [BINARY, "check-model", file, "--golden", directory / "golden.safetensors", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode in (0, 2), result.stderr
    return json.loads(result.stdout)


def test_the_demo_model_as_gguf_is_its_reference(tmp_path):
    gguf_checkpoint.convert(DEMO, tmp_path / "m.gguf", "BF16")
    assert check(tmp_path / "m.gguf", DEMO)["passed"]


def test_split_files_are_one_model(tmp_path):
    gguf_checkpoint.convert(DEMO, tmp_path / "m.gguf", "BF16", shards=3)
    assert len(list(tmp_path.iterdir())) == 3
    assert check(tmp_path / "m-00001-of-00003.gguf", DEMO)["passed"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_as_gguf_is_its_reference(name, tmp_path):
    directory = family(name)
    gguf_checkpoint.convert(directory, tmp_path / "m.gguf", "F32")
    report = check(tmp_path / "m.gguf", directory)
    assert report["passed"], report


@pytest.mark.parametrize("kind", KINDS)
def test_codes_lie_as_far_from_the_reference_as_their_values(kind, tmp_path):
    errors = []
    for dequantized in (False, True):
        file = tmp_path / f"{dequantized}.gguf"
        gguf_checkpoint.convert(DEMO, file, kind, dequantized=dequantized)
        errors.append([r["error"] for r in check(file, DEMO)["results"]])
    assert errors[0] == pytest.approx(errors[1], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["deepseek_v3", "gpt2", "qwen3_5"])
def test_codes_in_another_order_are_their_values(name, tmp_path):
    """Whose rows or columns the file has in another order or form than the checkpoint."""
    errors = []
    for dequantized in (False, True):
        file = tmp_path / f"{dequantized}.gguf"
        gguf_checkpoint.convert(family(name), file, "Q8_0", dequantized=dequantized)
        errors.append([r["error"] for r in check(file, family(name))["results"]])
    assert errors[0] == pytest.approx(errors[1], rel=1e-3, abs=1e-5)


def test_an_older_file_of_latent_attention_is_its_reference(tmp_path):
    directory = family("deepseek_v3")
    gguf_checkpoint.convert(directory, tmp_path / "m.gguf", "F32", old=True)
    assert check(tmp_path / "m.gguf", directory)["passed"]


def test_a_served_file_answers_as_its_directory(tmp_path):
    (tmp_path / "model").mkdir()
    gguf_checkpoint.convert(DEMO, tmp_path / "model/some-name.gguf", "BF16")
    texts = ["The old house", " two  spaces, \u00e9\u00e8 and 1234567 don't", "<|user|>hi<|end|>"]
    messages = [{"role": "user", "content": "Tell me of the sea."}]
    answers = []
    for model in (str(DEMO), str(tmp_path / "model/some-name.gguf"), str(tmp_path / "model")):
        server = Server(tmp_path, "--set", "engine.cpu_kernels=avx2", model=model)
        try:
            client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
            name = client.models.list().data[0].id
            got = [client.completions.create(model=name, prompt=t, max_tokens=16, temperature=0) for t in texts]
            chat = client.chat.completions.create(model=name, messages=messages, max_tokens=32, temperature=0)
            answers.append([(g.choices[0].text, g.usage.prompt_tokens) for g in got])
            answers[-1].append((chat.choices[0].message.content, chat.choices[0].finish_reason))
        finally:
            assert server.stop() == 0
    assert answers[1] == answers[0]
    assert answers[2] == answers[0]
    assert name == "model"


def test_refuses_a_directory_of_several_files(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        gguf_checkpoint.convert(DEMO, tmp_path / name, "Q8_0")
    result = subprocess.run([BINARY, "inspect", tmp_path], capture_output=True, text=True)
    assert result.returncode == 1
    assert "a.gguf" in result.stderr and "2 GGUF files" in result.stderr


def test_tokenize_reads_the_vocabulary_of_a_file(tmp_path):
    gguf_checkpoint.convert(DEMO, tmp_path / "m.gguf", "BF16")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("The old house", "Ünïcode 日本 \n x", ""))
    answers = [
        subprocess.run([BINARY, "tokenize", "--tokenizer", of], input=lines, capture_output=True, text=True, check=True)
        for of in (DEMO / "tokenizer.json", tmp_path / "m.gguf")
    ]
    assert json.loads(answers[0].stdout.splitlines()[0])["ids"]
    for one, other in zip(*(answer.stdout.splitlines() for answer in answers), strict=True):
        assert json.loads(one)["ids"] == json.loads(other)["ids"]
