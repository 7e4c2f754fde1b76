"""docs/configuration.md says what the struct says."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from router.config import ChannelSettings, Config
from router.loading import RELOADABLE, load, reference
from router.loading.settings import settings
from router.loading.values import words
from router.permissions import ROLES, RolePermissions
from tests.router.configs import KINDS, variable

PAGE = reference.PATH.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_is_up_to_date() -> None:
    assert reference.page() == PAGE, "run python -m router.loading.reference"


def test_it_writes_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.md"
    monkeypatch.setattr("sys.argv", ["reference", str(path)])
    monkeypatch.delitem(sys.modules, "router.loading.reference")  # else it could not be run any more
    runpy.run_module("router.loading.reference", run_name="__main__")
    assert path.read_text(encoding="utf-8") == PAGE


def test_every_block_loads_and_means_something(tmp_path: Path) -> None:
    assert len(BLOCKS) == 2
    for number, block in enumerate(BLOCKS):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, encoding="utf-8")
        loaded = load(str(file), {})
        assert loaded.config != Config() or loaded.config.roles == ROLES
        assert set(loaded.sources.values()) == {"default", f"file {file}"}
        assert loaded.warnings == []


def test_the_default_roles_are_the_block_of_roles(tmp_path: Path) -> None:
    file = tmp_path / "roles.toml"
    file.write_text(BLOCKS[1], encoding="utf-8")
    assert load(str(file), {}).config.roles == ROLES


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_described(name: str) -> None:
    (section,) = re.findall(rf"#### `{name}`\n\n(.*?)\n\n(.*?)\n\n", PAGE + "\n", re.DOTALL)
    facts, description = section
    assert f"`{variable(name)}`" in facts
    assert ("read again on SIGHUP" in facts) == (name in RELOADABLE)
    assert len(description) > 20
    assert description.endswith((".", "`"))


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#(.*?)\)", PAGE)
    assert links
    assert set(links) <= anchors
    assert len(headings) == len(set(headings))


def test_no_line_is_too_long_but_those_of_tables_and_facts() -> None:
    assert [
        line for line in PAGE.splitlines() if len(line) > 120 and not line.startswith("|") and " · " not in line
    ] == []


# What the page is made of


@pytest.mark.parametrize("struct", [Config, ChannelSettings, RolePermissions])
def test_every_field_has_a_description_of_its_own(struct: type) -> None:
    found = list(settings(struct))
    descriptions = [setting.description for setting in found]
    assert all(descriptions)
    assert len(descriptions) == len(set(descriptions))
    assert [setting.name for setting in found] == list(struct.__struct_fields__)  # type: ignore[attr-defined]


def test_settings_have_headings_and_defaults() -> None:
    found = {setting.name: setting for setting in settings()}
    assert found["host"].section == "Where it listens"
    assert found["roles"].section == "Who may come in"
    assert found["roles"].default == ROLES
    assert found["roles"].default is not ROLES
    assert found["log_level"].default == "info"
    assert found["jwks"].description.startswith("A set of public keys (JWKS), as a file or an http(s) address; ")
    assert found["jwks"].description.endswith(" that is not in it.")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_words(name: str) -> None:
    assert words(KINDS[name])
