"""The official client against the demo model."""

import statistics

import openai
import pytest
from conftest import DEVICE, few


@pytest.fixture
def client(demo):
    return openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0)


def test_lists_the_model(client):
    assert [m.id for m in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"


def test_completes(client):
    answer = client.completions.create(
        model="demo", prompt="The old house", max_tokens=few(12), temperature=0
    )
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.choices[0].text
    assert answer.usage.completion_tokens <= few(12)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_streams_what_it_would_answer_at_once(client):
    ask = dict(model="demo", prompt="It was a dark night", max_tokens=few(40), temperature=0)
    whole = client.completions.create(**ask)
    chunks = list(
        client.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert (
        chunks[-1].choices == []
        and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    )


def test_chats(client):
    ask = dict(
        model="demo",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Tell me of the sea."},
        ],
        max_tokens=few(24),
        temperature=0,
    )
    whole = client.chat.completions.create(**ask)
    assert whole.choices[0].message.role == "assistant"
    chunks = list(client.chat.completions.create(**ask, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks)
        == whole.choices[0].message.content
    )
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_seed_repeats_and_another_differs(client):
    def ask(seed):
        return (
            client.completions.create(
                model="demo", prompt="Once", max_tokens=few(30), temperature=1, seed=seed
            )
            .choices[0]
            .text
        )

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(5)}) > 1


def test_gives_n_choices(client):
    answer = client.completions.create(
        model="demo", prompt=["Once", "Twice"], n=3, max_tokens=few(8), temperature=1, seed=5
    )
    assert [c.index for c in answer.choices] == list(range(6))
    assert len({c.text for c in answer.choices[:3]}) > 1


def test_stop_strings_do_not_leave(client):
    ask = dict(
        model="demo",
        prompt="The old house",
        max_tokens=2 * few(20),
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    whole = client.completions.create(**ask).choices[0].text
    begin = min(10, len(whole) - 4)
    stop = whole[begin : begin + 4]
    assert len(stop) == 4
    cut = client.completions.create(**ask, stop=[stop]).choices[0]
    assert cut.finish_reason == "stop"
    assert cut.text == whole[: whole.index(stop)]
    streamed = "".join(
        c.choices[0].text for c in client.completions.create(**ask, stop=[stop], stream=True)
    )
    assert streamed == cut.text


def test_logprobs_are_ordered_and_hold_the_greedy_token(client):
    answer = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=5,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
    )
    for entry in answer.choices[0].logprobs.content:
        values = [t.logprob for t in entry.top_logprobs]
        assert len(values) == 3 and values == sorted(values, reverse=True)
        assert entry.logprob == pytest.approx(values[0], abs=1e-5)
        assert all(v <= 0 for v in values)


def test_ids_are_prompts_too(client, demo):
    text = client.completions.create(
        model="demo", prompt="The old house", max_tokens=few(10), temperature=0
    )
    ids = client.post("/../tokenize", body={"prompt": "The old house"}, cast_to=object)["tokens"]
    same = client.completions.create(model="demo", prompt=ids, max_tokens=few(10), temperature=0)
    assert same.choices[0].text == text.choices[0].text


@pytest.mark.parametrize(
    "field,value",
    [
        ("temperature", 5),
        ("top_p", 0),
        ("max_tokens", -1),
        ("n", 0),
        ("top_p", "high"),
        ("frequency_penalty", 9),
        ("stop", 3),
        ("seed", "x"),
    ],
)
def test_names_the_field_that_is_wrong(client, field, value):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="demo", prompt="x", extra_body={field: value})
    assert error.value.body["param"] == field
    assert error.value.body["code"] == 400


def test_refuses_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="nope", prompt="x")
    assert "nope" in error.value.body["message"]


def test_refuses_a_prompt_beyond_the_context(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="demo", prompt="word " * 5000, max_tokens=4)
    assert ("512" if DEVICE else "2048") in error.value.body["message"]


def test_refuses_an_empty_prompt_of_no_tokens(client):
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="demo", prompt=[])


def test_refuses_an_image_by_name(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(
            model="demo",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": "data:,"}},
                    ],
                }
            ],
        )
    assert error.value.body["param"] == "messages[0].content[1]"


def test_scored_prompts_agree_with_their_echo(client):
    ask = dict(model="demo", prompt=[489, 677, 806, 311], max_tokens=1, temperature=0, logprobs=2)
    echoed = client.completions.create(**ask, echo=True).choices[0].logprobs
    scored = client.completions.create(**ask, extra_body={"prompt_logprobs": 2}).choices[0]
    assert len(scored.logprobs.tokens) == 1
    assert scored.prompt_logprobs[0] is None
    for i, token in enumerate(ask["prompt"][1:], 1):
        row = scored.prompt_logprobs[i]
        assert row[str(token)]["logprob"] == pytest.approx(echoed.token_logprobs[i], abs=1e-5)
        assert row[str(token)]["decoded_token"] == echoed.tokens[i]
        assert {v["decoded_token"]: v["logprob"] for v in row.values()} == pytest.approx(
            echoed.top_logprobs[i], abs=1e-5
        )
        assert {1, 2} <= {v["rank"] for v in row.values()}


def test_echoed_log_probabilities_are_those_that_sampling_reports(client):
    """Each token of the prompt, beside the same token drawn after the prompt up to it."""
    ids = [489, 677, 806, 311, 264]
    ask = dict(model="demo", temperature=0, logprobs=0)
    whole = client.completions.create(**ask, prompt=ids, max_tokens=1, echo=True)
    echoed = whole.choices[0].logprobs
    assert len(echoed.tokens) == len(ids) + 1
    assert echoed.token_logprobs[0] is None
    for i in range(1, len(ids)):
        drawn = client.completions.create(
            **ask, prompt=ids[:i], max_tokens=1, extra_body={"logprob_token_ids": [ids[i]]}
        ).choices[0]
        wanted = drawn.logprobs.top_logprobs[0][echoed.tokens[i]]
        assert echoed.token_logprobs[i] == pytest.approx(wanted, abs=2e-4)
    text, offsets = whole.choices[0].text, echoed.text_offset
    assert [text[a:b] for a, b in zip(offsets, offsets[1:])] == echoed.tokens[:-1]


def likelihood(choice):
    return statistics.mean(choice.logprobs.token_logprobs)


@pytest.mark.parametrize("n", [1, 2])
def test_best_of_gives_the_likeliest_of_its_candidates(client, n):
    prompts = ["The old house", "The sea"]
    ask = dict(model="demo", prompt=prompts, max_tokens=few(16), temperature=1, seed=11)
    whole = client.completions.create(**ask, n=6, logprobs=0)
    best = client.completions.create(**ask, n=n, best_of=6)
    ranked = []
    for first in (0, 6):
        ranked += sorted(whole.choices[first:first + 6], key=likelihood, reverse=True)[:n]
    assert [c.text for c in best.choices] == [c.text for c in ranked]
    assert [c.index for c in best.choices] == list(range(2 * n))
    assert best.usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.logprobs is None for c in best.choices)
    told = client.completions.create(**ask, n=n, best_of=6, logprobs=0, echo=True)
    for choice, wanted in zip(told.choices, ranked):
        assert choice.text == prompts[choice.index // n] + wanted.text
        ours, theirs = choice.logprobs.token_logprobs, wanted.logprobs.token_logprobs
        assert len(ours) > len(theirs) and ours[-len(theirs):] == theirs


def test_best_of_is_at_least_n_and_waits_for_its_candidates(client):
    ask = dict(model="demo", prompt="Once", max_tokens=2)
    for more in ({"best_of": 2, "n": 3}, {"best_of": 2, "stream": True}, {"best_of": 17}, {"best_of": 0}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(**ask, **more)
        assert refused.value.param == "best_of", more
    assert list(client.completions.create(**ask, n=2, best_of=2, stream=True))
