#!/usr/bin/env python3
"""House rules that a compiler does not check: `lint.py CHECK` exits 1 and lists what is wrong."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = {".cc", ".h", ".cu", ".cuh", ".py"}


def tracked():
    """Source files that are ours: tracked, or new and not ignored."""
    try:
        out = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        names = out.split("\n")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        names = [
            str(p.relative_to(ROOT))
            for p in ROOT.rglob("*")
            if "build" not in p.relative_to(ROOT).parts[:1]
        ]
    return [ROOT / n for n in names if n and (ROOT / n).is_file()]


def sources(*tops):
    return [p for p in tracked() if p.suffix in CODE and p.relative_to(ROOT).parts[0] in tops]


def layer_table():
    """folder -> folders it may include, transitively closed, from docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", text, re.M)
    table = {folder: set(re.findall(r"\w+", allowed)) for folder, allowed in rows}
    assert len(table) > 10, "the folder table of docs/architecture.md was not found"
    for folder, allowed in table.items():
        if "everything" in allowed:
            table[folder] = set(table)
        else:
            assert allowed <= set(table), f"{folder}: unknown folder in {allowed}"
    changed = True
    while changed:
        changed = False
        for folder, allowed in table.items():
            wider = allowed | {"base"} | {x for a in allowed for x in table[a]}
            changed |= wider != allowed
            table[folder] = wider
    return table


def layers():
    table = layer_table()
    for path in sources("src"):
        folder = path.relative_to(ROOT / "src").parts[0]
        if folder not in table:
            yield f"{path.relative_to(ROOT)}: the folder {folder} is not in docs/architecture.md"
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'#include "(\w+)/', line)
            if (
                not match
                or match[1] in ("absl", "penstock")
                or (match[1] == "kernels" and path.is_relative_to(ROOT / "src/backend/cuda"))
            ):
                continue
            if match[1] != folder and match[1] not in table[folder]:
                yield f"{path.relative_to(ROOT)}:{number}: {folder} may not include {match[1]}"
    for path in sources("include"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.match(r'#include "(?!penstock/|absl/)', line):
                yield f"{path.relative_to(ROOT)}:{number}: include/penstock knows only itself and Abseil"


def sizes():
    for path in sources("src", "include", "kernels", "tests", "benchmarks"):
        lines = path.read_text().splitlines()
        if len(lines) > 500:
            yield f"{path.relative_to(ROOT)}: {len(lines)} lines, 500 at most"
        for number, line in enumerate(lines, 1):
            if len(line) > 120:
                yield f"{path.relative_to(ROOT)}:{number}: {len(line)} columns, 120 at most"
    total = sum(len(p.read_text().splitlines()) for p in sources("include"))
    if total > 1500:
        yield f"include/penstock: {total} lines, 1500 at most"


def headers():
    types = {}  # of namespace penstock: a second of the same name is a broken program, silently
    for path in sources("src", "include", "kernels"):
        if path.suffix not in (".h", ".cuh"):
            continue
        if "\nnamespace penstock {" in path.read_text() and "PENSTOCK_KERNELS" not in path.read_text():
            for name in re.findall(r"^(?:class|struct|enum class) (\w+)[^;{]*\{", path.read_text(), re.M):
                if types.setdefault(name, path) != path:
                    yield f"{path.relative_to(ROOT)}: {name} is another type in {types[name].relative_to(ROOT)}"
        opening = []
        for line in path.read_text().splitlines():
            if not line.startswith("//"):
                break
            opening.append(line)
        text = "\n".join(opening)
        if "Threads:" not in text or not re.search(r"ust not\s+(// )?know", text) or len(opening) > 8:
            yield f"{path.relative_to(ROOT)}: opens with what it is, owns, must not know, Threads:; 8 lines"
        if "#pragma once" not in path.read_text():
            yield f"{path.relative_to(ROOT)}: no #pragma once"


def words():
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    awaits = re.compile(r"\b(if|while|switch)\s*\(.*co_await|[{?].*co_await.*[}:]")
    names = re.compile(r"^\s*(?:class|struct) (\w*(?:Manager|Handler|Impl|Util|Helper|Context))\b")
    for path in sources("src", "include", "kernels", "tests"):
        if path == pathlib.Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}"
            if marks.search(line):
                yield f"{where}: leftover mark"
            if awaits.search(line):
                yield f"{where}: co_await inside a condition, brace or ternary (g++ 12 generates wrong code)"
            if names.search(line):
                yield f"{where}: {names.search(line)[1]}: a name that says nothing"
            if "testing::TempDir()" in line:
                yield f"{where}: a folder that all tests share (fakes/temp_dir.h makes one for each)"


def threads():
    owner = re.compile(r"\bstd::(?:jthread|thread)\b(?!::)")
    for path in sources("src"):
        text = path.read_text()
        if (
            path.suffix == ".h"
            and owner.search(text)
            and not re.search(r"class \w*(Loop|WorkerPool)\b", text)
        ):
            yield f"{path.relative_to(ROOT)}: only a type named *Loop or WorkerPool owns threads"
        if re.search(r"\b(sleep_for|sleep_until|usleep|nanosleep)\b", text):
            yield f"{path.relative_to(ROOT)}: no sleeping in src"


def kernels():
    """A kernel may begin before the one before it has ended, and lets the next begin (docs/adding-a-kernel.md)."""
    begins_late = {"peer_reduce.cu"}  # waits for other ranks, which may need what the next kernel would take
    within = {"WalkSteps": "gemm_skinny.cuh", "AttentionTile16": "attention_tile16.cuh"}  # what kernels call
    for path in sources("kernels"):
        if path.suffix not in (".cu", ".cuh"):
            continue
        code = re.sub(r"//.*", "", path.read_text())
        for kernel in re.finditer(r"__global__ void (?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(.*?\n}\n", code, re.S):
            body = kernel[0]
            for name, file in within.items():
                if name in body:
                    body += (ROOT / "kernels" / file).read_text()
            for call in ("PdlWait", "PdlTrigger"):
                if f"{call}();" not in body and not (call == "PdlTrigger" and path.name in begins_late):
                    yield f"{path.relative_to(ROOT)}: {kernel[1]} does not execute {call}"


def journey():
    """The files that pages name exist, those of the README's journey among them."""
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        page, text = path.relative_to(ROOT), path.read_text()
        for name in re.findall(
            r"`((?:src|include|kernels|tests|configs|benchmarks|docs|models|deploy|docker|cmake)/[\w./*-]+)`", text
        ):
            if not any(ROOT.glob(name.rstrip("/"))):
                yield f"{page}: {name} does not exist"


def toolkit():
    """kernels/ needs nothing of the toolkit's libraries: what they use is compiled by the emulator too."""
    library = re.compile(r'\s*#\s*include\s*[<"](cub|cuda|thrust|cooperative_groups|cute|cutlass|nv)\b[/.]')
    for path in sources("kernels"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := library.match(line):
                yield f"{path.relative_to(ROOT)}:{number}: kernels/ includes nothing of {match[1]}"


CHECKS = {f.__name__: f for f in (layers, sizes, headers, words, threads, kernels, toolkit, journey)}

if __name__ == "__main__":
    problems = list(CHECKS[sys.argv[1]]())
    print("\n".join(problems))
    print(f"{sys.argv[1]}: {len(problems)} problem(s)")
    sys.exit(1 if problems else 0)
