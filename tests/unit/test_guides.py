"""Every command of a held guide is run by some test; and how a guide is read."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
import typer

from hub.cli import app
from tests.support.guide import HELD, Block, blocks, blocks_of, steps_of
from tests.support.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HUB_COMMAND = re.compile(r"(?:^|`|bin/|hub )edge-hub ([a-z]+)(?: ([a-z]+))?", re.MULTILINE)
_TITLE = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)

GUIDE = """
# Title
## One
```bash hub
# a comment
edge-hub tokens create \\
  --name me

echo 'two
lines'
cat > file <<'END'
one
END
a |
  b
```
### Below
```yaml my.yml
a: 1
```
## Two
```text
shown
```
"""


class Taken(NamedTuple):
    """A section that some test takes."""

    heading: str
    but: tuple[str, ...]

    def has(self, block: Block) -> bool:
        """Tell whether a block is run by that test."""
        return self.heading in block.headings and not set(self.but) & set(block.headings)


@pytest.mark.parametrize("guide", HELD)
def test_every_command_of_the_guide_is_run_by_some_test(guide: str) -> None:
    taken = list(_taken(guide))
    alone = [f"{guide}:{one.line}" for one in blocks(guide) if _is_held(one) and not any(it.has(one) for it in taken)]
    assert alone == []


@pytest.mark.parametrize("guide", HELD)
def test_no_block_of_the_guide_only_looks_like_a_command(guide: str) -> None:
    languages = {one.language for one in blocks(guide)}
    assert languages <= {"bash", "text", "json", "yaml", "toml", "ini", "python"}


@pytest.mark.parametrize("path", sorted(PAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(path: Path) -> None:
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    wrong = []
    for target in _LINK.findall(text):
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if "://" not in target and (not there.exists() or (anchor and anchor not in _anchors(there))):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("path", sorted(PAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_names_commands_of_the_hub_that_there_are(path: Path) -> None:
    missing = []
    for name, more in _HUB_COMMAND.findall(path.read_text(encoding="utf-8")):
        found = _of(typer.main.get_command(app)).get(name)
        if found is None or (more and _of(found) and more not in _of(found)):
            missing.append(f"edge-hub {name} {more}".rstrip())
    assert missing == []


def test_a_block_knows_its_headings_and_its_words() -> None:
    assert [(one.language, one.word, one.headings) for one in blocks_of(GUIDE)] == [
        ("bash", "hub", ("Title", "One")),
        ("yaml", "my.yml", ("Title", "One", "Below")),
        ("text", "", ("Title", "Two")),
    ]


def test_a_block_is_taken_apart_where_a_line_ends_a_command() -> None:
    assert [step.text for step in steps_of(blocks_of(GUIDE)[0])] == [
        "edge-hub tokens create \\\n  --name me",
        "echo 'two\nlines'",
        "cat > file <<'END'\none\nEND",
        "a |\n  b",
    ]


def test_a_command_that_does_not_end_is_not_dropped() -> None:
    block = Block("bash", "", "echo 'open\n", 1, ())
    with pytest.raises(AssertionError, match="does not end"):
        steps_of(block)


def _of(group: object) -> dict[str, object]:
    """Return the commands of a group of commands."""
    found: dict[str, object] = getattr(group, "commands", {})
    return found


def _anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in _TITLE.findall(text)}


def _is_held(block: Block) -> bool:
    return block.language == "bash" or bool(block.word)


def _taken(guide: str) -> Iterator[Taken]:
    """Read from the tests' source which sections they take."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        source = path.read_text(encoding="utf-8")
        if f'section("{guide}"' in source:
            yield from (_read(call) for call in ast.walk(ast.parse(source)) if _takes(call, guide))


def _takes(node: ast.AST, guide: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "section"
        and ast.literal_eval(node.args[0]) == guide
    )


def _read(node: ast.AST) -> Taken:
    assert isinstance(node, ast.Call)
    but = next((ast.literal_eval(word.value) for word in node.keywords if word.arg == "but"), ())
    return Taken(ast.literal_eval(node.args[1]), but)
