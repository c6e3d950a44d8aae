#!/usr/bin/env python3
"""Joins pairs of texts with the library `tokenizers` for every kind of post-processor and writes
tests/unit/text/pair_cases.json: [{"tokenizer": ..., "rows": [[first, second, ids, types], ...]}, ...].

    pip install tokenizers==0.23.3
    make_pair_cases.py OUT_FILE
"""

import json
import sys

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ["[UNK]", "[CLS]", "[SEP]", "the", "sea", "old", "house", "a", "##s", "##side", "is", "far"]
PAIRS = [
    ("the sea", "a house"),
    ("the old houses", "is far"),
    ("", "seaside"),
    ("the seas", ""),
    ("", ""),
    ("[SEP] old", "the [CLS] sea unknown"),
]


def template(single, pair):
    return processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )


bert = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
PROCESSORS = [
    None,
    bert,
    processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1)),
    template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    template("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
    template("[CLS] $A", "[CLS] $A [CLS]:1 $B:1"),
    template("$A [SEP]", "$A $B:1 [SEP]:1"),
    processors.Sequence([processors.ByteLevel(), template("[CLS] $A", "[CLS] $A [SEP] $B:1")]),
    processors.Sequence([bert, processors.ByteLevel()]),
]


def cases():
    for processor in PROCESSORS:
        t = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer()
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
        if processor is not None:
            t.post_processor = processor
        rows = []
        for a, b in PAIRS:
            e = t.encode(a, b)
            rows.append([a, b, e.ids, e.type_ids])
        yield {"tokenizer": json.loads(t.to_str()), "rows": rows}


with open(sys.argv[1], "w") as out:
    json.dump(list(cases()), out, separators=(",", ":"))
    out.write("\n")
