"""Links within the documentation lead somewhere: to a file that exists, and to a heading that it has."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import DOCUMENTS, ROOT

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
CODE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """What can stand behind `#`: each heading in lower case, without punctuation, words joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", document.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    lost = []
    for path, anchor in LINK.findall(CODE.sub("", document.read_text("utf-8"))):
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor[1:] not in anchors(target)):
            lost.append(path + anchor)
    assert lost == []
