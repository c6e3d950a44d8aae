"""What `penstock eval` says of quality, beside the same computed here from the log-probs that servers give."""

import json
import math
import subprocess
import urllib.request

import pytest
from conftest import BINARY, DEMO

TEXT = "The sea was calm and the captain looked at the stars for a long time before he spoke. " * 60
EXACT = ["--set", "engine.dtype=float32", "--set", "engine.kv_dtype=float32"]


def evaluated(*arguments):
    done = subprocess.run([BINARY, "eval", *map(str, arguments), "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def post(server, path, body):
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def completed(server, prompt, **more):
    body = {"model": "demo", "prompt": prompt, "max_tokens": 1, "temperature": 0, **more}
    return post(server, "/v1/completions", body)["choices"][0]["logprobs"]


def divergence(wanted, got):
    """KL of what both tell, with the rest of each as one event."""
    both = wanted.keys() & got.keys()
    kl = sum(math.exp(wanted[t]) * (wanted[t] - got[t]) for t in both)
    rest, other = (1 - sum(math.exp(of[t]) for t in both) for of in (wanted, got))
    return kl + (rest * math.log(rest / max(other, 1e-9)) if rest > 1e-9 else 0)


def check(report, losses, reference_losses, wanted, got, mean_kl):
    assert report["predictions"] == len(losses) == len(wanted) > 10
    for key, all_losses in (("perplexity", losses), ("reference_perplexity", reference_losses)):
        assert report[key] == pytest.approx(math.exp(sum(all_losses) / len(losses)), rel=1e-4)
    assert report["perplexity"] != pytest.approx(report["reference_perplexity"], rel=1e-4)
    divergences = [divergence(*pair) for pair in zip(wanted, got)]
    assert report[mean_kl] == pytest.approx(sum(divergences) / len(divergences), rel=2e-3)
    assert report[mean_kl] > 1e-4
    same = sum(max(w, key=w.get) == max(g, key=g.get) for w, g in zip(wanted, got))
    assert report["same_top1"] == pytest.approx(same / len(wanted), abs=1e-9)


def test_quality_is_what_the_log_probs_of_servers_come_to(serve, tmp_path):
    tested, reference = serve(*EXACT, "--set", "engine.quantize=int4-128"), serve(*EXACT)
    text = tmp_path / "text.txt"
    text.write_text(TEXT)

    # Two servers: windows of 2 KB, the most likely tokens of each position of their second halves.
    losses, tops = {tested: [], reference: []}, {tested: [], reference: []}
    for server in losses:
        for begin in range(0, 4096, 2048):
            told = completed(server, TEXT[begin:begin + 2048], echo=True, logprobs=5)
            positions = range(1, len(told["tokens"]) - 1)  # the first follows nothing, the last was generated
            for i in positions[len(positions) // 2:]:
                losses[server].append(-told["token_logprobs"][i])
                tops[server].append(told["top_logprobs"][i])
    addresses = [server.url.removeprefix("http://") for server in (tested, reference)]
    report = evaluated("--server", addresses[0], "--reference-server", addresses[1], "--text", text, "--windows", 2)
    check(report, losses[tested], losses[reference], tops[reference], tops[tested], "least_mean_kl")

    # Models: windows of 16 tokens, the whole vocabulary.
    ids = post(reference, "/tokenize", {"prompt": TEXT, "add_special_tokens": False})["tokens"]
    everything = list(range(json.load(open(f"{DEMO}/config.json"))["vocab_size"]))
    losses, tops = {tested: [], reference: []}, {tested: [], reference: []}
    for server in losses:
        for window in (ids[:16], ids[16:32]):
            told = completed(server, window, echo=True, logprobs=0)["token_logprobs"]
            for i in range(9, 16):
                losses[server].append(-told[i])
                drawn = completed(server, window[:i], logprobs=0, logprob_token_ids=everything)
                tops[server].append(drawn["top_logprobs"][0])
    report = evaluated(DEMO, "--quantize", "int4-128", "--text", text, "--tokens", 32, "--window", 16)
    check(report, losses[tested], losses[reference], tops[reference], tops[tested], "mean_kl")
