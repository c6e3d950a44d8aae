"""Embedding models and rerankers served to real clients, judged by what transformers computes."""

import base64
import concurrent.futures
import json
import math
import shutil
import struct
import urllib.error
import urllib.request

import openai
import pytest
from conftest import DEMO, ROOT, Server

ENCODERS = ROOT / "tests/goldens/encoders"
FLOAT32 = ["--set", "engine.dtype=float32"]
CONTEXT = 64


def golden(name):
    return json.loads((ENCODERS / name / "golden.json").read_text())


def running(tmp_path_factory, name):
    server = Server(tmp_path_factory.mktemp(name), *FLOAT32, model=str(ENCODERS / name))
    yield server
    assert server.stop() == 0, server.log
    assert "Sanitizer" not in server.log and "runtime error:" not in server.log, server.log


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    yield from running(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    yield from running(tmp_path_factory, "bert_reranker")


def post(server, path, expect=200, **body):
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    assert status == expect, text
    return json.loads(text)


def client_of(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def unit(v):
    norm = math.sqrt(sum(x * x for x in v))
    return [x / norm for x in v]


def close(a, b):
    return a == pytest.approx(b, rel=1e-4, abs=2e-5)


@pytest.mark.parametrize("name", ["bert", "qwen3_embedding"])
def test_texts_get_the_embeddings_of_the_reference(serve, name):
    server = serve(*FLOAT32, model=str(ENCODERS / name))
    rows = golden(name)["texts"]
    for encoding in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client_of(server).embeddings.create(
            model=name, input=[row["text"] for row in rows], **encoding
        )
        assert [d.index for d in answer.data] == list(range(len(rows)))
        for row, got in zip(rows, answer.data):
            vector = got.embedding
            if isinstance(vector, str):  # the client decodes only what it asked for itself
                raw = base64.b64decode(vector)
                vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
            assert close(vector, row["embedding"]), row["text"]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_a_directory_with_a_vocab_txt_needs_no_tokenizer_json(serve, tmp_path):
    directory = tmp_path / "bert"
    shutil.copytree(ENCODERS / "bert", directory)
    vocab = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.txt").write_text("".join(w + "\n" for w in sorted(vocab, key=vocab.get)))
    server = serve(*FLOAT32, model=str(directory))
    rows = golden("bert")["texts"]
    answer = post(server, "/v1/embeddings", input=[row["text"] for row in rows])
    for row, got in zip(rows, answer["data"]):
        assert close(got["embedding"], row["embedding"]), row["text"]


@pytest.mark.parametrize(
    "name,pooling,normalized",
    [("bert", "mean", True), ("xlm_roberta", "cls", False), ("qwen3_embedding", "last", True)],
)
def test_ids_get_the_embeddings_of_the_reference(serve, name, pooling, normalized):
    server = serve(*FLOAT32, model=str(ENCODERS / name))
    rows = golden(name)["prompts"]
    expected = [unit(row[pooling]) if normalized else row[pooling] for row in rows]
    answer = client_of(server).embeddings.create(
        model=name, input=[row["ids"] for row in rows], encoding_format="float"
    )
    for want, got in zip(expected, answer.data):
        assert close(got.embedding, want)
    alone = client_of(server).embeddings.create(model=name, input=rows[2]["ids"])
    assert close(alone.data[0].embedding, expected[2])
    assert answer.usage.prompt_tokens == sum(len(row["ids"]) for row in rows)


def test_dimensions_cut_and_normalise_again(bert):
    whole = post(bert, "/v1/embeddings", input="the sea")["data"][0]["embedding"]
    answer = post(bert, "/v1/embeddings", input="the sea", dimensions=5)
    assert close(answer["data"][0]["embedding"], unit(whole[:5]))
    error = post(bert, "/v1/embeddings", 400, input="x", dimensions=33)["error"]
    assert error["param"] == "dimensions" and "32" in error["message"]


def test_many_clients_at_once_get_what_each_gets_alone(bert):
    words = ["sea", "house", "dog", "light", "wind", "boat", "road", "door"]
    inputs = [[" ".join(words[: 1 + i % 8]), words[i % 8]] for i in range(32)]
    alone = [
        [d["embedding"] for d in post(bert, "/v1/embeddings", input=i)["data"]] for i in inputs[:8]
    ]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: post(bert, "/v1/embeddings", input=i), inputs))
    for i, answer in enumerate(answers):
        assert [d["embedding"] for d in answer["data"]] == alone[i % 8]


def test_two_thousand_inputs_in_one_call_and_not_more(bert):
    answer = post(bert, "/v1/embeddings", input=[[5 + i % 100] for i in range(2048)])
    assert len(answer["data"]) == 2048
    assert answer["data"][107]["embedding"] == answer["data"][7]["embedding"]
    assert answer["usage"]["prompt_tokens"] == 2048
    error = post(bert, "/v1/embeddings", 400, input=[[5]] * 2049)["error"]
    assert error["param"] == "input" and "2048" in error["message"]


def test_what_is_too_long_is_refused_or_cut(bert):
    long = "a " * 100
    error = post(bert, "/v1/embeddings", 400, input=["x", "y", "z", long])["error"]
    assert error["param"] == "input[3]"
    assert "102 tokens" in error["message"] and str(CONTEXT) in error["message"]
    cut = post(bert, "/v1/embeddings", input=long, truncate_prompt_tokens=-1)
    assert cut["usage"]["prompt_tokens"] == CONTEXT
    short = post(bert, "/v1/embeddings", input=long, truncate_prompt_tokens=6)
    same = post(bert, "/v1/embeddings", input="a a a a")
    assert short["data"][0]["embedding"] == same["data"][0]["embedding"]


@pytest.mark.parametrize(
    "field,body",
    [
        ("input", {}),
        ("input", {"input": 7}),
        ("input", {"input": []}),
        ("input[1]", {"input": ["x", 7]}),
        ("input[1]", {"input": [[5], [True]]}),
        ("input", {"input": [5, 1000]}),
        ("input[1]", {"input": [[5], []]}),
        ("encoding_format", {"input": "x", "encoding_format": "int8"}),
        ("dimensions", {"input": "x", "dimensions": 0}),
        ("dimensions", {"input": "x", "dimensions": "5"}),
        ("truncate_prompt_tokens", {"input": "x", "truncate_prompt_tokens": 65}),
        ("truncate_prompt_tokens", {"input": "x", "truncate_prompt_tokens": 2}),
        ("user", {"input": "x", "user": 7}),
    ],
)
def test_wrong_embedding_requests_name_the_field(bert, field, body):
    error = post(bert, "/v1/embeddings", 400, **body)["error"]
    assert error["param"] == field, error
    assert field.split("[")[0] in error["message"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_reranks_as_the_reference(reranker, path):
    rows = golden("bert_reranker")["pairs"]
    for query in {row["query"] for row in rows}:
        mine = [row for row in rows if row["query"] == query]
        answer = post(reranker, path, query=query, documents=[row["document"] for row in mine])
        results = answer["results"]
        scores = [r["relevance_score"] for r in results]
        assert scores == sorted(scores, reverse=True)
        assert sorted(r["index"] for r in results) == list(range(len(mine)))
        for r in results:
            assert r["document"] == {"text": mine[r["index"]]["document"]}
            assert close(r["relevance_score"], mine[r["index"]]["score"])
        assert answer["usage"]["total_tokens"] > 0


def test_rerank_gives_the_best_and_cuts_the_longer_text(reranker):
    documents = [{"text": "the sea"}, "the old house", "a dog"]
    whole = post(reranker, "/v1/rerank", query="who", documents=documents)["results"]
    best = post(
        reranker, "/v1/rerank", query="who", documents=documents, top_n=2, return_documents=False
    )["results"]
    assert best == [{k: v for k, v in r.items() if k != "document"} for r in whole[:2]]
    long = "a " * 100
    error = post(reranker, "/v1/rerank", 400, query="who", documents=["x", long])["error"]
    assert error["param"] == "documents[1]" and str(CONTEXT) in error["message"]
    cut = post(
        reranker, "/v1/rerank", query="a", documents=[long, "a"], truncate_prompt_tokens=10
    )
    same = post(reranker, "/v1/rerank", query="a", documents=["a " * 6, "a"])
    assert [r["relevance_score"] for r in cut["results"]] == [
        r["relevance_score"] for r in same["results"]
    ]


@pytest.mark.parametrize(
    "field,body",
    [
        ("query", {"documents": ["x"]}),
        ("query", {"query": ["x"], "documents": ["x"]}),
        ("documents", {"query": "x"}),
        ("documents", {"query": "x", "documents": "x"}),
        ("documents", {"query": "x", "documents": []}),
        ("documents[1]", {"query": "x", "documents": ["x", {"txt": "y"}]}),
        ("top_n", {"query": "x", "documents": ["x"], "top_n": -1}),
        ("return_documents", {"query": "x", "documents": ["x"], "return_documents": 1}),
    ],
)
def test_wrong_rerank_requests_name_the_field(reranker, field, body):
    assert post(reranker, "/v1/rerank", 400, **body)["error"]["param"] == field


def test_models_say_what_they_cannot_do(bert, reranker, serve):
    chat = {"messages": [{"role": "user", "content": "x"}]}
    for server, path, body, hint in [
        (bert, "/v1/completions", {"prompt": "x"}, "/v1/embeddings"),
        (bert, "/v1/chat/completions", chat, "/v1/embeddings"),
        (bert, "/v1/rerank", {"query": "x", "documents": ["y"]}, "classifier"),
        (reranker, "/v1/embeddings", {"input": "x"}, "/v1/rerank"),
        (reranker, "/v1/completions", {"prompt": "x"}, "/v1/rerank"),
        (serve(model=DEMO), "/v1/rerank", {"query": "x", "documents": ["y"]}, "classifier"),
    ]:
        error = post(server, path, 400, **body)["error"]
        assert error["param"] == "model" and hint in error["message"], error


def test_a_decoder_embeds_and_generates(demo):
    answer = post(demo, "/v1/embeddings", input=["The old house", "The sea"])
    assert sum(x * x for x in answer["data"][0]["embedding"]) == pytest.approx(1, abs=1e-4)
    done = post(demo, "/v1/completions", prompt="The", max_tokens=2, ignore_eos=True)
    assert done["usage"]["completion_tokens"] == 2


def test_embeddings_are_counted_and_logged(bert):
    tokens = bert.metric("vllm:prompt_tokens_total")
    done = bert.metric("vllm:request_success_total", finished_reason="stop")
    post(bert, "/v1/embeddings", input=[[5, 6, 7], [8]], request_id="counted")
    assert bert.metric("vllm:prompt_tokens_total") == tokens + 4
    assert bert.metric("vllm:request_success_total", finished_reason="stop") == done + 2
    lines = bert.logged(request_id="counted")
    assert len(lines) == 1, lines
