#!/usr/bin/env python3
"""What tests/lint/tidy --changed looks at, and that it finds a fault there, in a repository made here."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

TIDY = pathlib.Path(__file__).with_name("tidy")


class Repository:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "tests/lint").mkdir(parents=True)
        shutil.copy(TIDY, self.folder / "tests/lint/tidy")
        self.git("init", "-q")

    def git(self, *arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=self.folder, check=True)

    def commit(self, **files):
        for name, text in files.items():
            path = self.folder / "src" / name.replace("__", "/").replace("_h", ".h").replace("_cc", ".cc")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "next")

    def chosen(self):
        done = subprocess.run([self.folder / "tests/lint/tidy", "no-build", "--changed", "--list"], capture_output=True,
                              text=True, check=True)
        return done.stdout.split()


    def looks(self, *files):
        """(the exit code, what is said) where these are looked at, all of one library"""
        (self.folder / ".clang-tidy").write_text(
            "Checks: '-*,bugprone-*'\nHeaderFilterRegex: '/src/'\nWarningsAsErrors: '*'\n")
        unity = str(self.folder / "unity.cc")
        (self.folder / "compile_commands.json").write_text(json.dumps([
            {"directory": str(self.folder), "file": unity,
             "command": f"c++ -o src/penstock_many.dir/unity.o -c {unity}"}]))
        paths = (self.folder / "src/many" / file for file in files)
        done = subprocess.run([self.folder / "tests/lint/tidy", self.folder, *paths], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def expect(condition, *what):
    if not condition:
        sys.exit(" ".join(map(str, what)))


def main():
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository(folder)
        repository.commit(**{f"many__f{n}_cc": "int i;" for n in range(100)}, a__old_cc='#include "a/far.h"\n',
                          a__near_h='#include "a/far.h"\n', a__far_h="", a__user_cc='#include "a/near.h"\n')
        for _ in range(30):
            repository.commit()
        drawn = repository.chosen()
        expect(len(drawn) == len(set(drawn)) == 10, "nothing changed in 30 commits, and of all of src:", drawn)
        repository.commit()
        expect(set(repository.chosen()) != set(drawn), "another commit draws others")
        repository.commit(many__f7_cc="int j;")
        for _ in range(28):
            repository.commit()
        expect("src/many/f7.cc" == repository.chosen()[0], "changed 29 commits ago:", repository.chosen())
        repository.commit(a__far_h="int i;")
        for header, looked_at in (("a__near_h", "src/a/user.cc"), ("a__far_h", "src/a/old.cc")):
            repository.commit(**{header: "// changed\n"})
            expect(looked_at in repository.chosen(), header, "is looked at in", looked_at, repository.chosen())
        (repository.folder / "src/a/user.cc").write_text("int k;")
        expect(repository.chosen()[0] == "src/a/user.cc", "what is not committed comes first", repository.chosen())
        repository.commit(**{f"many__f{n}_cc": "int k;" for n in range(100)})
        expect(len(repository.chosen()) == 60, "no more than 50 and 10:", len(repository.chosen()))
        repository.commit(many__fault_cc="double Mean(int a, int b) { return (a + b) / 2; }",
                          many__one_cc="namespace { int n; }\nint One() { return n; }",
                          many__other_cc="namespace { int n; }\nint Other() { return n; }")
        if shutil.which("clang-tidy-14"):
            code, text = repository.looks("one.cc", "fault.cc")
            expect(code == 1 and "many/fault.cc:1:" in text, "a fault among several files:", code, text)
            code, text = repository.looks("one.cc", "other.cc")
            expect(code == 0, "two files' own names are at odds:", text)
            repository.commit(many__device_h='#include "kernels/runtime.h"\n',
                              many__device_cc='#include "many/device.h"\ndouble Half(int a) { return a / 2; }')
            (repository.folder / "kernels").mkdir()
            (repository.folder / "kernels/runtime.h").write_text("#include <no_toolkit.h>\n")
            code, text = repository.looks("one.cc", "device.cc")
            expect(code == 0 and "no CUDA toolkit: src/many/device.cc" in text, "a toolkit is missing:", text)
        shutil.rmtree(repository.folder / ".git")
        expect(len(repository.chosen()) == 10, "without a history:", repository.chosen())


main()
