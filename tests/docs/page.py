"""Pages of Markdown as the test of their blocks sees them: fenced blocks, and the marks before them.

A mark is a comment, which no reader sees, on the lines right before a block:

    <!-- not run: REASON -->          it cannot run in a test
    <!-- with: FILE=README.md; X=Y -->  in this block these texts stand for those, which exist here
    <!-- file: NAME -->               the block is the content of a file beside the commands
    <!-- prints: TEXT -->             what it prints has this text
    <!-- fails: REASON -->            it must end with an error
    <!-- served: MODEL -->            a server of this model, or under this configuration (.yaml), is there, and wants a
                                      key where the configuration has `auth`
    <!-- left: CONFIG -->             one under this configuration was there, has answered a request, and has ended
    <!-- serves -->                   each command is a server, which must become ready, and end well
"""

import dataclasses
import re

SHELLS = ("sh", "bash", "shell", "console")
TEXTS = ("not run", "with", "file", "prints", "fails", "served", "left")  # marks that say something
MARKS = (*TEXTS, "serves")


class Fault(Exception):
    """What is wrong with a page, with its line."""


@dataclasses.dataclass
class Block:
    page: str
    line: int
    language: str
    text: str
    marks: dict  # name -> text

    @property
    def where(self):
        return f"{self.page}:{self.line}"

    def commands(self):
        """Of a shell block: its text; of a console: what stands behind the prompts."""
        if self.language != "console":
            return self.text
        lines, more = [], False
        for line in self.text.splitlines():
            if line.startswith("$ ") or (more and line.startswith("> ")):
                lines.append(line[2:])
                more = line.endswith("\\")
        if not lines:
            raise Fault(f"{self.where}: a console without a line that begins with '$ '")
        return "\n".join(lines) + "\n"

    def pairs(self):
        """What `with` says."""
        pairs = []
        for part in self.marks.get("with", "").split("; "):
            if part.strip():
                old, _, new = part.strip().partition("=")
                if old not in self.text:
                    raise Fault(f"{self.where}: the mark replaces {old!r}, which the block does not have")
                pairs.append((old, new.replace("\\n", "\n")))
        return pairs


def read_mark(text, where):
    """(name, text) of the inside of a comment."""
    name, _, value = text.strip().partition(":")
    name, value = name.strip(), value.strip()
    if name not in MARKS:
        raise Fault(f"{where}: unknown mark {name!r}; known are: {', '.join(MARKS)}")
    if name in TEXTS and not value:
        raise Fault(f"{where}: the mark {name!r} says nothing behind its colon")
    return name, value


def blocks(page, text):
    """Every fenced block of a page. Raises Fault for marks that are not understood, or that no block follows."""
    found, marks, inside, opened = [], {}, None, 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"^(\s*)```\s*([\w-]*)\s*$", line)
        if inside is not None:
            if fence and not fence[2]:
                found.append(Block(page, opened, language, "\n".join(inside) + "\n", marks))
                inside, marks = None, {}
            else:
                inside.append(line)
            continue
        if fence:
            inside, opened, language = [], number, fence[2]
            continue
        comment = re.match(r"^\s*<!--(.*)-->\s*$", line)
        if comment:
            name, value = read_mark(comment[1], f"{page}:{number}")
            if name in marks:
                raise Fault(f"{page}:{number}: the mark {name!r} twice before one block")
            marks[name] = value
            continue
        if "<!--" in re.sub(r"`[^`]*`", "", line):
            raise Fault(f"{page}:{number}: a comment is a mark, on a line of its own")
        if marks:
            raise Fault(f"{page}:{number}: a mark before something that is no block: {', '.join(marks)}")
    if inside is not None or marks:
        raise Fault(f"{page}: ends within a block, or with a mark")
    for block in found:
        if not block.language and re.search(r"^\s*(\./dev|penstock|curl|docker|sudo|pip)\b", block.text, re.M):
            raise Fault(f"{block.where}: a block of commands that does not say sh")
        if "file" in block.marks and block.language in SHELLS:
            raise Fault(f"{block.where}: commands are run, not kept in a file")
    return found


def spans(text):
    """(line, text) of what stands in single backticks outside blocks; it may go over a line's end."""
    outside = re.sub(r"^\s*```.*?^\s*```\s*$", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    for match in re.finditer(r"`([^`\n]+(?:\n[^`\n]+)?)`", outside):
        yield outside.count("\n", 0, match.start()) + 1, match[1].replace("\n", " ")
