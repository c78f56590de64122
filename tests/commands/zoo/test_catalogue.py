"""`prunepolicy policies`: what there is, and what is known about one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.cli import main
from prunepolicy.commands.zoo.ship import ship
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import built_in_policies
from prunepolicy.policy.zoo import pinned_keys
from prunepolicy.policy.zoo.signing import load_key, make_key
from prunepolicy.policy.zoo.sources import package

MakeReport = Callable[..., TrainReport]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def shipped(invented: MakeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the finished run `runs/rows`, which also ships as `tiny-rows.v1`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    add_run("rows", invented(0.9))
    folder = tmp_path / "shipped"
    monkeypatch.setattr(package, "SHIPPED", folder)
    monkeypatch.setattr(pinned_keys, "PINNED", (make_key(tmp_path / "key.pem"),))
    ship(Path("runs/rows"), "tiny-rows.v1", [load_key(tmp_path / "key.pem")], folder)
    return folder


def add_run(name: str, report: TrainReport | None) -> Path:
    best = Path("runs") / name / "best"
    PruneNet(PruneNetConfig(hidden=4), name).save(best)
    if report is not None:
        write_policy_card(report.card.model_copy(update={"name": name}), best)
    return best


def shown(capsys: Captured, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["policies", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert all(letter.isprintable() or letter == "\n" for letter in printed.out)
    return printed.out


def squeezed(printed: str) -> str:
    return "\n".join(" │ ".join(map(str.strip, line.split("│"))) for line in printed.splitlines())


def test_the_list_compares_every_policy_with_the_best_heuristic(
    shipped: Path, invented: MakeReport, capsys: Captured
) -> None:
    add_run("worse", invented(1.2))
    printed = squeezed(shown(capsys))
    for line in (
        " │ tiny-rows.v1 │ prunenet │ m │ 1 │ 0.9000 │ fisher 1.0000 │ beats │ ",
        " │ runs/rows │ prunenet │ m │ 1 │ 0.9000 │ fisher 1.0000 │ beats │ ",
        " │ runs/worse │ prunenet │ m │ 1 │ 1.2000 │ fisher 1.0000 │ loses │ ",
    ):
        assert line in printed
    assert all(f" │ {name} │ " in printed for name in built_in_policies())
    assert " │ fisher_activation │ activations, gate gradients │ " in printed
    assert " │ random │ nothing │ " in printed


def test_the_list_for_programs(shipped: Path, capsys: Captured) -> None:
    data = json.loads(shown(capsys, "--json"))
    assert data["shipped"]["tiny-rows.v1"]["word"] == "beats"
    assert data["runs"]["runs/rows"]["heuristics"]["fisher"]["mean"]["median"] == 1.0
    assert data["built_in"]["fisher"]["reads"] == ["gate gradients"]
    assert (data["runs"].keys(), data["troubles"]) == ({"runs/rows"}, [])


def test_runs_without_a_readable_card_are_named_beside_the_others(shipped: Path, capsys: Captured) -> None:
    add_run("unfinished", None)
    (add_run("broken", None) / "card.json").write_text("{")
    printed = shown(capsys)
    assert "runs/unfinished isn't finished or is damaged. Can't read the card" in printed
    assert "runs/broken isn't finished" in printed
    assert "runs/rows" in printed


def test_without_anything_learned_the_list_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No finished run under ./runs has a policy for pruning." in shown(capsys)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("tiny-rows.v1", "tiny-rows.v1"),
        ("tiny-rows", "tiny-rows.v1"),
        ("runs/rows", "runs/rows/best"),
        ("rows", "runs/rows/best"),
    ],
)
def test_one_policy_is_shown_by_its_card(shipped: Path, name: str, source: str, capsys: Captured) -> None:
    printed = shown(capsys, name)
    assert printed.startswith("**In this one run, this policy beats the best heuristic")
    assert f"--policy {source} " in printed
    assert json.loads(shown(capsys, name, "--json"))["learned"]["mean"]["median"] == 0.9


def test_a_built_in_policy_is_shown_in_one_line(shipped: Path, capsys: Captured) -> None:
    assert shown(capsys, "magnitude").count("\n") == 1
    assert json.loads(shown(capsys, "qubo", "--json"))["reads"] == ["gate gradients"]


@pytest.mark.parametrize("name", ["tiny-row", "../shipped/tiny", "..", "", "no\x1b[31mthing"])
def test_unknown_names_are_refused(shipped: Path, name: str, capsys: Captured) -> None:
    assert main(["policies", name]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: There is no policy")
    assert said.strip().isprintable()


@pytest.mark.parametrize("arguments", [[], ["--json"], ["tiny-rows.v1"]])
def test_a_tampered_card_is_shown_to_nobody(shipped: Path, arguments: list[str], capsys: Captured) -> None:
    card = shipped / "tiny-rows.v1" / "card.json"
    card.write_text(card.read_text().replace("0.9", "0.1"))
    capsys.readouterr()
    assert main(["policies", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "isn't what the index lists" in said.err


def test_what_a_foreign_card_says_moves_no_cursor(shipped: Path, capsys: Captured) -> None:
    file = Path("runs/rows/best/card.json")
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "verdict": "\x1b[2Jgood", "models": ["[/red]\x1b[31m"]}))
    assert "[2Jgood" in shown(capsys, "rows")
    assert "[/red][31m" in shown(capsys)
