"""What can be said of commands without running them: does the program know them, are their files there?"""

import functools
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = "benchmarks|cmake|configs|deploy|docker|docs|include|kernels|models|proto|src|tests"


class Program:
    """The help of a binary."""

    def __init__(self, binary):
        self.binary = binary

    @functools.lru_cache(maxsize=None)
    def help(self, command):
        return subprocess.run([self.binary, *command, "--help"], capture_output=True, text=True, check=True).stdout

    def subcommands(self, command):
        _, _, listed = self.help(command).partition("Subcommands:\n")
        return re.findall(r"^  ([\w-]+)\s", listed.partition("\n\n")[0], re.M)

    def knows(self, command, flag):
        return flag in ("--help", "-h") or re.search(rf"(^|[\s,]){re.escape(flag)}\b(?![\w-])", self.help(command))

    def faults(self, words):
        """Of the words behind `penstock`."""
        command = ()
        for word in words:
            if not self.subcommands(command):
                break
            if word.startswith("-"):
                break
            if word not in self.subcommands(command):
                return [f"`penstock {' '.join((*command, word))}`: no such command"]
            command = (*command, word)
        if command[:1] == ("help",):
            return []
        return [f"`penstock {' '.join(command)}` has no {flag}"
                for flag in (w.split("=")[0] for w in words if re.match(r"--?[a-z]", w))
                if not self.knows(command, flag)]


def plain(text):
    """One command a line, without comments."""
    text = re.sub(r"\\\n\s*", " ", text)
    return re.sub(r"(^|\s)#.*$", "", text, flags=re.M)


def dev_words():
    text = (ROOT / "dev").read_text()
    return set(re.findall(r"^  (\w+)\) ", text, re.M)) | set(re.findall(r"(--\w+)", text))


def faults(text, program):
    """What is wrong with commands, or with one in a line of text."""
    found = []
    text = plain(text).replace("$(", "|")
    for match in re.finditer(r"(?:(?<![\w/.:-])|^build/release/bin/)penstock[ \t]+([^|;&)\n<>`]+)", text, re.M):
        words = [w.strip("[]\"',") for w in match[1].split()]
        found += program.faults([w for w in words if w and w not in ("…", "...")])
    for match in re.finditer(r"(?<![\w/])\./dev[ \t]+([^|;&)\n`]+)", text):
        words = match[1].split()
        known = dev_words()
        if words[0] not in known:
            found.append(f"`./dev {words[0]}`: no such command")
        if words[0] == "serve":
            found += program.faults(words)
        else:
            found += [f"`./dev {words[0]}` has no {w}" for w in words[1:] if w.startswith("--") and w not in known]
    for match in re.finditer(rf"(?<![\w/.=-])(?:\./)?((?:{FOLDERS})/[\w./*-]+)", text):
        path = match[1].rstrip(".")
        if not any(ROOT.glob(path.rstrip("/"))):
            found.append(f"{path} does not exist")
    for match in re.finditer(r"build/\w+/(benchmarks/\w+)/(\w+)", text):
        if f"{match[2]}" not in (ROOT / match[1] / "CMakeLists.txt").read_text():
            found.append(f"{match[0]} is no target of {match[1]}/CMakeLists.txt")
    return found
