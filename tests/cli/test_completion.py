"""Shell completion: what it offers, and that bash, where it is, takes the script."""

import pytest

from router import cli
from router.events import CHANNELS
from tests.cli.program import shell
from tests.cli.test_main import exit_code_of


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not exit_code_of("completion", name)
    printed = capsys.readouterr().out
    assert f"_NEUROGRAPH_ROUTER_COMPLETE={name}_complete" in printed
    assert "neurograph-router" in printed


def offered(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is offered for the last word."""
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    monkeypatch.setenv("_NEUROGRAPH_ROUTER_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit):
        cli.main([])
    return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("neurograph-router s", ["serve", "sub"]),
        ("neurograph-router sub ", [*CHANNELS]),
        ("neurograph-router sub metrics st", ["status"]),
        ("neurograph-router pub sig", ["signals"]),
        ("neurograph-router sub --format ", ["json", "pretty", "compact"]),
        ("neurograph-router serve --log-level w", ["warning"]),
        ("neurograph-router token --role d", ["developer"]),
        ("neurograph-router completion z", ["zsh"]),
    ],
)
def test_what_is_offered(
    words: str, completions: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offered(words, monkeypatch, capsys) == completions


async def test_bash_takes_it() -> None:
    script = """
        eval "$(neurograph-router completion bash)"
        COMP_WORDS=(neurograph-router sub sig) COMP_CWORD=2
        _neurograph_router_completion neurograph-router
        echo "${COMPREPLY[@]}"
        complete -p neurograph-router
    """
    done = await shell(script)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "signals"
    assert "_neurograph_router_completion" in done.out
