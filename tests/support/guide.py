"""The blocks of a guide, for the tests that run them as they stand.

How a guide is written, so that nothing in it escapes:

- What a reader types is a block that opens with three backticks and `bash`. All of it is run. `sh` and blocks without a
  language are not allowed in guides that are held (`HELD`): a command that only looks like one would rot.
- A second word says where: `bash hub` is typed on the hub's host, `bash edge` on a worker's, plain `bash` anywhere.
- A file that the reader writes is a block whose second word is its name: `yaml my-site.yml`, `toml agent.toml`.
- What a program answers is a `text` or `json` block. It is not compared; say what you want to see in your test.

How a test takes them: a section by its heading, with all that stands below it down to the next heading of its level.
Every command that it has must be taken before the `with` ends, or the test fails and names what was left:

    with section("docs/deployment.md", "With docker compose") as steps:
        steps.write_files(tmp_path)                    # the section's files, by the names that they have in the guide
        for step in steps:                             # in order, each a Step(text, where, line)
            run(step.text)

    with section("docs/deployment.md", "As a service") as steps:
        token = hub.run(steps.take("workers enrol").text)   # the first one left that holds these words
        edge.run(steps.take("install.sh").text.replace("hft_...", token))

Name guide and heading as plain strings in the call: `tests/unit/test_guides.py` reads the tests' source, and fails for
every block of a held guide that lies in no section some test takes. A section that contains others takes theirs too,
unless they are named: `section(guide, heading, but=("Its subsection",))`, which another test must take then.

A backslash at a line's end and open quotes join lines, as does a here-document; a blank or comment line is no command.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELD = ("docs/deployment.md",)
"""The guides of which every command is run by some test."""

_HEADING = re.compile(r"(#+) +(.*?) *$")
_HERE_DOCUMENT = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `language` and `word` open it, `headings` are those that it stands under, outermost first."""

    language: str
    word: str
    text: str
    line: int
    headings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One command. `where` is the block's second word, or empty; `line` is where its block begins in the guide."""

    text: str
    where: str
    line: int


@dataclass(slots=True)
class Steps:
    """The commands of a section, in order, and what is left of them."""

    files: dict[str, str]
    left: list[Step] = field(default_factory=list)

    def __iter__(self) -> Iterator[Step]:
        """Take all that are left, one after the other."""
        while self.left:
            yield self.left.pop(0)

    def take(self, words: str) -> Step:
        """Take the first command left that holds these words."""
        for step in self.left:
            if words in step.text:
                self.left.remove(step)
                return step
        msg = f"no command that is left holds {words!r}: {[step.text for step in self.left]}"
        raise AssertionError(msg)

    def write_files(self, folder: Path) -> None:
        """Write the section's files into a folder."""
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")


@contextmanager
def section(guide: str, heading: str, *, but: tuple[str, ...] = ()) -> Iterator[Steps]:
    """Yield the commands under a heading; without those of the subsections in `but`. See the top of this file."""
    inside = [one for one in blocks(guide) if heading in one.headings and not set(but) & set(one.headings)]
    assert inside, f"{guide} has no blocks under a heading {heading!r}"
    files = {one.word: one.text for one in inside if one.language != "bash" and one.word}
    steps = Steps(files, [step for one in inside if one.language == "bash" for step in steps_of(one)])
    yield steps
    left = [f"{guide}:{step.line}: {step.text}" for step in steps.left]
    assert left == [], "commands of the guide that this test did not run"


def blocks(guide: str) -> list[Block]:
    """Return the fenced blocks of a guide, named by its path in the repository."""
    return blocks_of((ROOT / guide).read_text(encoding="utf-8"))


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a text, in order."""
    found: list[Block] = []
    headings: list[str] = []
    opened: tuple[int, str] | None = None
    held: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = line.startswith("```")
        if opened and fence:
            language, _, word = opened[1].partition(" ")
            found.append(Block(language, word.strip(), "".join(held), opened[0], tuple(filter(None, headings))))
            opened, held = None, []
        elif opened:
            held.append(f"{line}\n")
        elif fence:
            opened = number, line.removeprefix("```").strip()
        elif title := _HEADING.match(line):
            depth = len(title[1])
            headings = [*headings[: depth - 1], *[""] * (depth - 1 - len(headings)), title[2]]
    return found


def steps_of(block: Block) -> list[Step]:
    """Take a block apart, where a line ends a command."""
    steps, lines = [], list[str]()
    until = None
    for line in block.text.splitlines():
        if not lines and (not line.strip() or line.startswith("#")):
            continue
        lines.append(line)
        if until is None and (here := _HERE_DOCUMENT.search(line)):
            until = here[1]
        elif until is not None and line.strip() == until:
            until = None
        if until is None and not _goes_on("\n".join(lines)):
            steps.append(Step("\n".join(lines), block.word, block.line))
            lines = []
    assert not lines, f"line {block.line}: the last command does not end: {lines}"
    return steps


def _goes_on(text: str) -> bool:
    return text.endswith(("\\", "|", "&&", "||")) or _open_quote(text)


def _open_quote(text: str) -> bool:
    quote = ""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return bool(quote)
