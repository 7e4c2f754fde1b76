"""The fenced code blocks of the documentation: where they stand, what they say, and how they want to be run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "clients" / "fixtures" / "README.md",
    ROOT / "clients" / "python" / "README.md",
]

_OPENING = re.compile(r"( *)(`{3,}|~{3,})\s*(\S*)\s*$")
_NOTE = re.compile(r"\s*<!-- ?(?:(with|file|instead): (.+?)|(continues)) ?-->\s*$")
_MESSAGE = re.compile(r'`(\{"type":[^`]+)`')


@dataclass(frozen=True)
class Notes:
    """What invisible comments right above a block say of it.

    Attributes:
        settings: `with: key metrics_interval_s=0.2`: settings of the server it talks to; `key` is a key to sign with.
        file: `file: router.toml`: the name under which this block, and those below it, find its text.
        replacements: `instead: 200000 → 2000; 5000 30 → 50 1`: what the test puts in place of what people read.
        continues: It goes on where the block of the same language above it ended.
    """

    settings: tuple[str, ...] = ()
    file: str = ""
    replacements: tuple[tuple[str, str], ...] = ()
    continues: bool = False


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        document: The file, relative to the repository.
        line: That of its opening fence, from 1.
        language: The word behind the fence; empty where there is none.
        text: What it holds, replacements made, and those of the blocks before that it continues.
        files: Texts that blocks up to this one have as files, by name.
    """

    document: str
    line: int
    language: str
    text: str
    notes: Notes
    files: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def find_blocks(document: Path) -> Iterator[Block]:
    """The blocks of a Markdown file, from top to bottom."""
    files: dict[str, str] = {}
    latest: dict[str, str] = {}
    lines = iter(enumerate(document.read_text(encoding="utf-8").splitlines(), 1))
    above: list[str] = []
    for number, line in lines:
        if not (opening := _OPENING.match(line)):
            above = [*above, line] if _NOTE.match(line) else []
            continue
        indent, fence, language = opening.groups()
        notes = _read_notes(above)
        inside = []
        for _, line in lines:
            if line.strip() == fence:
                break
            inside.append(line.removeprefix(indent))
        else:
            raise AssertionError(f"{document}:{number}: this block does not end")
        text = "".join(f"{line}\n" for line in inside)
        for shown, run in notes.replacements:
            assert shown in text, f"{document}:{number}: {shown!r} is to be replaced, and is not there"
            text = text.replace(shown, run)
        if notes.continues:
            text = latest[language] + text
        latest[language] = text
        if notes.file:
            files[notes.file] = text
        yield Block(str(document.relative_to(ROOT)), number, language, text, notes, dict(files))
        above = []


def find_messages(document: Path) -> Iterator[Block]:
    """The messages within a Markdown file's text and tables, as blocks of JSON."""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        for text in _MESSAGE.findall(line):
            yield Block(f"{document.relative_to(ROOT)}", number, "json", text, Notes())


def _read_notes(lines: list[str]) -> Notes:
    said: dict[str, str] = {}
    for line in lines:
        found = _NOTE.match(line)
        assert found
        said[found[1] or found[3]] = found[2] or ""
    pairs = [part.split(" → ") for part in said.get("instead", "").split("; ") if part]
    return Notes(
        settings=tuple(said.get("with", "").split()),
        file=said.get("file", ""),
        replacements=tuple((shown.strip(), run.strip()) for shown, run in pairs),
        continues="continues" in said,
    )
