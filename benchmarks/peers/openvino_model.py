#!/usr/bin/env python3
"""Makes an OpenVINO model of a GGUF file of 16-bit weights, rounded as asked.

    openvino_model.py MODEL-F16.gguf OUT_DIR --weights int8-channel|int4-128|none

OpenVINO GenAI reads the GGUF file, nncf rounds what it read: int8-channel is symmetric, a scale per
output channel; int4-128 is symmetric, a scale per 128 columns, head and embedding in 8 bits.
Needs openvino-genai and nncf from PyPI.
"""
import argparse
import pathlib
import shutil
import tempfile

import nncf
import openvino
import openvino_genai


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--weights", choices=("int8-channel", "int4-128", "none"), required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as work:   # the model is saved beside the file it is read from
        link = pathlib.Path(work) / args.gguf.name
        link.symlink_to(args.gguf.resolve())
        openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True)
        model = openvino.Core().read_model(pathlib.Path(work) / "openvino_model.xml")
        if args.weights == "int8-channel":
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        elif args.weights == "int4-128":
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=128,
                                          backup_mode=nncf.BackupMode.INT8_SYM)
        openvino.save_model(model, args.out / "openvino_model.xml", compress_to_fp16=False)
        for name in ("tokenizer", "detokenizer"):
            for kind in ("xml", "bin"):
                shutil.move(pathlib.Path(work) / f"openvino_{name}.{kind}", args.out)
    print(args.out)


if __name__ == "__main__":
    main()
