#!/usr/bin/env python3
"""Encodes texts with transformers' tokenizers of directories that have no tokenizer.json and writes
tests/unit/text/vocabulary_directory_cases.json: [{"files": {name: text}, "rows": [[text, ids, ids_special], ...]}].

    pip install transformers==5.23.0
    make_vocabulary_files.py OUT_FILE
"""

import json
import pathlib
import sys
import tempfile

from tokenizers import pre_tokenizers
from transformers import BertTokenizer, GPT2Tokenizer, Qwen2Tokenizer, RobertaTokenizer

TEXTS = [
    "The sea, the seas; un\u00e9 caf\u00e9!",
    " Hello  hello 1234 don't\n\nsea ",
    "\u4f60\u597d e\u0301 [SEP] <|endoftext|> </s> x",
    "",
]
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] the The sea ##s , ; ! une un "
    "##\u00e9 cafe caf ##e hello x \u4f60 don ' t 1 ##2 ##3 ##4 e"
)
MERGES = ["h e", "l l", "\u0120 s", "e a", "\u0120s ea", "T he", "\u0120 he", "1 2", "3 4", "12 34", "\u0120 1"]


def byte_pairs(extra):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = list(extra) + letters
    tokens += [m.replace(" ", "") for m in MERGES]
    return {
        "vocab.json": json.dumps({t: i for i, t in enumerate(tokens)}),
        "merges.txt": "#version: 0.2\n" + "\n".join(MERGES) + "\n",
    }


def words(**config):
    return {"vocab.txt": "\n".join(WORDS.split()) + "\n", "tokenizer_config.json": json.dumps(config)}


gpt2 = byte_pairs(["<|endoftext|>"])
roberta = byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
qwen2 = byte_pairs([])
added = {
    str(len(json.loads(qwen2["vocab.json"])) + i): {"content": t, "special": True}
    for i, t in enumerate(["<|endoftext|>", "<|im_start|>"])
}
CASES = [
    (BertTokenizer, words(tokenizer_class="BertTokenizer", do_lower_case=True)),
    (BertTokenizer, words(do_lower_case=False)),
    (BertTokenizer, words(do_lower_case=True, strip_accents=False)),
    (GPT2Tokenizer, gpt2 | {"tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer"})}),
    (GPT2Tokenizer, gpt2 | {"tokenizer_config.json": json.dumps({"add_prefix_space": True})}),
    (RobertaTokenizer, roberta | {"tokenizer_config.json": json.dumps({"tokenizer_class": "RobertaTokenizer"})}),
    (
        Qwen2Tokenizer,
        qwen2
        | {
            "tokenizer_config.json": json.dumps(
                {
                    "tokenizer_class": "Qwen2Tokenizer",
                    "added_tokens_decoder": added,
                    "eos_token": "<|endoftext|>",
                    "pad_token": "<|endoftext|>",
                    "unk_token": None,
                }
            )
        },
    ),
]

cases = []
for kind, files in CASES:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (pathlib.Path(folder) / name).write_text(text)
        tokenizer = kind.from_pretrained(folder)
        rows = [[t, tokenizer.encode(t, add_special_tokens=False), tokenizer.encode(t)] for t in TEXTS]
    cases.append({"files": files, "rows": rows})
pathlib.Path(sys.argv[1]).write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
