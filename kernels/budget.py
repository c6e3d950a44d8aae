#!/usr/bin/env python3
"""Holds what ptxas made of the kernels against kernels/budget.txt.

    kernels/budget.py [--write] OBJECT...

Each OBJECT of the build has a file OBJECT.ptxas beside it (cmake/ptxas_report). Exits 1 where a kernel spills, where
its static shared memory leaves no room in the 99 KB of compute capability 8.6 and 8.9, or where the file does not say
what was compiled; --write writes the file instead of comparing. Numbers are compared only with those of the same nvcc,
and only for the architectures that were built. Dynamic shared memory is held to 99 KB by static_assert.
"""
import argparse
import pathlib
import re
import subprocess
import sys

BUDGET = pathlib.Path(__file__).resolve().parent / "budget.txt"
MOST_STATIC_SHARED = 48 * 1024  # that a block may have without asking


def demangled(names):
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = {}
    for name, text in zip(names, out.splitlines()):
        text = re.sub(r"_GLOBAL__N__\w+|\(anonymous namespace\)", "{}", text)
        text = text.replace("penstock::kernels::", "").replace("{}::", "").replace("void ", "", 1)
        depth, end = 0, len(text)
        for i, c in enumerate(text):  # up to the parameters
            depth += (c == "<") - (c == ">" and text[i - 1] != "-")
            if c == "(" and depth == 0:
                end = i
                break
        short[name] = re.sub(r"\((?:int|bool)\)", "", text[:end]).replace(" ", "")
    return short


def kernels_of(path):
    """(mangled name, architecture) -> (registers, static shared bytes, spilled bytes, stack bytes)."""
    found, key, stack, spills = {}, None, 0, 0
    for line in path.read_text().splitlines():
        if match := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
            key, stack, spills = (match[1], match[2]), 0, 0
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spills = int(match[1]), int(match[2]) + int(match[3])
        elif (match := re.search(r"Used (\d+) registers", line)) and key:
            shared = re.search(r"(\d+) bytes smem", line)
            found[key] = (int(match[1]), int(shared[1]) if shared else 0, spills, stack)
            key = None
    return found


def compiler():
    text = subprocess.run([ARGS.nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V([\d.]+)", text)[1]


def main():
    rows = {}
    for name in ARGS.objects:
        path = pathlib.Path(name + ".ptxas")
        if not path.exists():
            sys.exit(f"{path} does not exist: build penstock_kernels first")
        found = kernels_of(path)
        short = demangled(sorted({n for n, _ in found}))
        file = pathlib.Path(name).name.split(".")[0]
        for (mangled, arch), numbers in found.items():
            rows[(arch, file, short[mangled])] = numbers
    if not rows:
        sys.exit("no kernel found")
    problems = []
    for (arch, file, name), (_, shared, spills, stack) in sorted(rows.items()):
        if spills or stack:
            problems.append(f"{arch} {file}.cu {name}: {spills} bytes spilled, {stack} bytes of stack")
        if shared > MOST_STATIC_SHARED:
            problems.append(f"{arch} {file}.cu {name}: {shared} bytes of static shared memory")
    lines = [f"{arch} {file} {name} {n[0]} {n[1]} {n[2]}" for (arch, file, name), n in sorted(rows.items())]
    head = [
        "# What ptxas makes of each kernel; written by kernels/budget.py --write, held by the test lint.kernel_budget.",
        f"# nvcc {compiler()}: architecture, file, kernel, registers, static shared memory (bytes), spilled (bytes)"]
    if ARGS.write:
        BUDGET.write_text("\n".join(head + lines) + "\n")
        print(f"{BUDGET}: {len(lines)} kernels")
    else:
        old = BUDGET.read_text().splitlines()
        archs = {arch for arch, _, _ in rows}
        if old[1] != head[1]:
            print(f"numbers not compared: written by another compiler ({old[1][2:]})")
        else:
            was = {line for line in old[2:] if line.split()[0] in archs}
            problems += [f"- {line}" for line in sorted(was - set(lines))]
            problems += [f"+ {line}" for line in sorted(set(lines) - was)]
            if was != set(lines):
                problems.append("kernels/budget.txt does not say what was compiled: look, then "
                                "cmake --build build/release --target write_kernel_budget")
        print(f"kernel_budget: {len(lines)} kernels for {', '.join(sorted(archs))}, {len(problems)} problem(s)")
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("objects", nargs="+")
    ARGS = parser.parse_args()
    main()
