#!/usr/bin/env python3
"""grammar_bench beside XGrammar and llguidance: the same schemas, tokenizer and token ids, one thread, one run.

    pip install --no-deps xgrammar==0.2.9    # it asks for torch
    pip install llguidance==1.9.1 tokenizers==0.23.3 transformers apache-tvm-ffi
    grammar_bench.py BENCH_PROGRAM TOKENIZER_JSON [EVERY_NTH_SCHEMA]

A rival's times hold what a call from Python costs; `call_us` is that of its cheapest call, to be subtracted by who
likes. XGrammar asks for torch, of which nothing is used on a CPU: where it is missing, a stand-in of the few names
that it imports serves.
"""
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import types

import numpy
import tvm_ffi  # noqa: F401  (before a stand-in that it would take for the real one)

if importlib.util.find_spec("torch") is None:
    torch = types.ModuleType("torch")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    torch.__getattr__ = lambda name: type(name, (), {})
    torch.int32, torch.Tensor = "int32", numpy.ndarray
    torch.tensor = lambda value, dtype=None: numpy.array(value, numpy.int32)
    sys.modules["torch"] = torch

import llguidance  # noqa: E402
import xgrammar  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402


def clock():
    return time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)


def spread(ns, unit):
    ns = sorted(ns)
    at = lambda q: round(ns[int(q * (len(ns) - 1))] / unit, 2) if ns else 0  # noqa: E731
    mean = round(sum(ns) / unit / max(1, len(ns)), 2)
    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1), "mean": mean,
            "n": len(ns)}


class XGrammar:
    name = "xgrammar " + importlib.metadata.version("xgrammar")

    def __init__(self, path, vocab_size):
        tokenizer = Tokenizer.from_file(path)
        vocab = tokenizer.get_vocab(with_added_tokens=True)
        pieces = [""] * vocab_size
        for piece, token in vocab.items():
            pieces[token] = piece
        stop = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        ends = [vocab[t] for t in stop if t in ("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "</s>")]
        info = xgrammar.TokenizerInfo(pieces, xgrammar.VocabType.BYTE_LEVEL, vocab_size=vocab_size, stop_token_ids=ends)
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.end = ends[0]
        self.mask = numpy.full((1, (vocab_size + 31) // 32), -1, numpy.int32)

    def compile(self, schema):
        return self.compiler.compile_json_schema(schema)

    def start(self, compiled):
        self.matcher = xgrammar.GrammarMatcher(compiled)

    def fill(self):
        self.matcher.fill_next_token_bitmask(self.mask)

    def accept(self, token):
        return self.matcher.accept_token(token)

    def finished(self):
        return self.matcher.accept_token(self.end)

    def cheap(self):
        self.matcher.is_terminated()


class LlGuidance:
    name = f"llguidance {llguidance.get_version()}"

    def __init__(self, path, vocab_size):
        self.tokenizer = llguidance.LLTokenizer(path, n_vocab=vocab_size)
        self.mask = numpy.full((1, (self.tokenizer.vocab_size + 31) // 32), -1, numpy.int32)

    def compile(self, schema):
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema)
        matcher = llguidance.LLMatcher(self.tokenizer, grammar)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def start(self, compiled):
        self.matcher = compiled.deep_copy()

    def fill(self):
        self.matcher.unsafe_compute_mask_ptr(self.mask.ctypes.data, self.mask.nbytes)

    def accept(self, token):
        return self.matcher.consume_token(token)

    def finished(self):
        return self.matcher.is_accepting()

    def cheap(self):
        self.matcher.is_error()


def measure(rival, cases):
    compiles, masks, calls, refused, denied, let_in, wrong = [], [], [], 0, 0, 0, 0
    for case in cases:
        begin = clock()
        try:
            compiled = rival.compile(case["schema"])
        except Exception:
            compiled = None
        compiles.append(clock() - begin)
        if compiled is None:
            refused += 1
            continue
        for test in case["tests"]:
            rival.start(compiled)
            begin = clock()
            rival.cheap()
            calls.append(clock() - begin)
            good = True
            for token in test["ids"]:
                begin = clock()
                rival.fill()
                masks.append(clock() - begin)
                allowed = bool(rival.mask[0, token >> 5] >> (token & 31) & 1)
                if not allowed:
                    good = False
                    break
                rival.accept(token)
            good = good and rival.finished()
            denied += test["valid"] and not good
            let_in += good and not test["valid"]
    return {
        "name": rival.name, "schemas": len(cases), "refused": refused, "compile_ms": spread(compiles, 1e6),
        "mask_us": spread(masks, 1e3), "call_us": spread(calls, 1e3)["p50"], "valid_denied": denied,
        "invalid_accepted": let_in,
    }


program, path, *nth = sys.argv[1:]
with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as dump:
    ours = json.loads(subprocess.check_output([program, path, *(nth or ["1"]), dump.name]))
    cases = [json.loads(line) for line in dump]
print(json.dumps({"name": "penstock", **ours}), flush=True)
for kind in XGrammar, LlGuidance:
    print(json.dumps(measure(kind(path, ours["vocabulary"]), cases)), flush=True)
