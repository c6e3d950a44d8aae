"""What the program says of itself: help, examples, completions, the man page."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import BINARY


def run(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=300)


def commands():
    """All of them, by --help itself."""
    found, left = [], [[]]
    while left:
        path = left.pop()
        found.append(path)
        text = run("help", *path).stdout
        below = text.partition("\nSubcommands:\n")[2].partition("\n\n")[0]
        left += [path + [m] for m in re.findall(r"^  (\S+) ", below, re.M)]
    return found


def test_help_fits_a_screen_and_has_an_example():
    all_commands = commands()
    assert len(all_commands) > 20
    for path in all_commands:
        done = run(*path, "--help")
        assert done.returncode == 0
        assert max(len(line) for line in done.stdout.splitlines()) <= 80, path
        assert len(done.stdout.splitlines()) <= 40, path
        assert done.stdout == run("help", *path).stdout
        assert "Example:\n  " in done.stdout, f"{path} has no example (src/server/command_tree.cc, or its footer)"


def test_examples_name_options_that_there_are():
    known = {tuple(path) for path in commands()}
    for path in known:
        example = run(*path, "--help").stdout.partition("Example:")[2].replace("\\\n", "")
        for line in re.findall(r"penstock ([^|;\n]*)", example):
            words = tuple(line.split())
            shown = next(words[:n] for n in (3, 2, 1, 0) if words[:n] in known)
            options = run(*shown, "--help").stdout
            for flag in re.findall(r"(?<!\S)--[a-z-]+", line):
                assert flag in options, (line, flag)


def test_errors_name_the_nearest_word():
    for words, expected in [
        (["serv"], "penstock has no command serv; did you mean serve?"),
        (["serve", "--prot", "1"], "penstock serve has no option --prot; did you mean --port?"),
        (["admin", "keys", "crate"], "penstock admin keys has no command crate; did you mean create?"),
        (["help", "admin", "kyes"], "penstock admin has no command kyes; did you mean keys?"),
        (["top", "--targt=x"], "penstock top has no option --targt; did you mean --target?"),
    ]:
        done = run(*words)
        assert done.returncode == 1 and expected in done.stderr, done.stderr


def test_bash_completes(tmp_path):
    script = tmp_path / "penstock.bash"
    script.write_text(run("completion", "bash").stdout)

    def complete(*words):
        line = " ".join(f"'{w}'" for w in words)
        code = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _penstock; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.split()
    assert complete("penstock", "se") == ["serve"]
    assert set(complete("penstock", "admin", "keys", "")) >= {"create", "rotate", "revoke", "list"}
    assert "--port" in complete("penstock", "serve", "--set", "a=b", "--p")
    assert complete("penstock", "top", "--onc") == ["--once"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell, tmp_path):
    script = tmp_path / f"penstock.{shell}"
    script.write_text(run("completion", shell).stdout)
    if not shutil.which(shell):
        assert os.environ.get("CI") != "true"
        pytest.skip(f"no {shell}: ./dev setup installs it")
    subprocess.run([shell, "-n", str(script)], check=True)
    if shell == "fish":
        ask = f"source {script}; complete -C 'penstock admin keys cr'"
        done = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True,
                              env={**os.environ, "HOME": str(tmp_path)})
        assert done.stdout.split()[0] == "create"
    else:
        ask = f"autoload -Uz compinit && compinit -u -d {tmp_path}/dump; source {script}; echo $_comps[penstock]"
        done = subprocess.run(["zsh", "-f", "-c", ask], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "_penstock"


def test_the_man_page(tmp_path):
    page = run("help", "--man").stdout
    for path in commands():
        if path:
            assert "penstock " + " ".join(path).replace("-", "\\-") in page, path
    if not shutil.which("groff"):
        assert os.environ.get("CI") != "true"
        pytest.skip("no groff: ./dev setup installs it")
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page, capture_output=True, text=True, check=True)
    assert not done.stderr and "penstock admin keys create" in done.stdout
