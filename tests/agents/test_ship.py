"""From a run to the shelf."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.agents.policy_card import read_card
from prunepolicy.agents.policy_card_text import write_policy_card
from prunepolicy.agents.ship import ship
from prunepolicy.agents.train_report import TrainReport
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.shelf import SHELF, Index, Shelf
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ship.py"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "index.json").write_text(Index().model_dump_json())
    return Shelf(folder)


@pytest.fixture
def run(invented: Callable[..., TrainReport], tmp_path: Path) -> Path:
    """The folder of a run, with a best policy and its card."""
    best = tmp_path / "runs" / "rows" / "best"
    PruneNet(PruneNetConfig(hidden=4), "rows").save(best)
    write_policy_card(invented(0.9).card, best)
    return best.parent


def test_the_script_ships_a_runs_policy_under_its_new_name(
    run: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(SCRIPT), str(run), "tiny-rows.v1", "--shelf", str(shelf.folder)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    folder = shelf.verified("tiny-rows.v1")
    assert load_policy_folder(folder).name == "tiny-rows.v1"
    assert read_card(folder).name == "tiny-rows.v1"
    text = (folder / "README.md").read_text()
    assert text.startswith(f"**{read_card(run / 'best').verdict}**\n\n# tiny-rows.v1")
    assert "--policy tiny-rows.v1" in text
    assert sorted(file.name for file in shelf.folder.iterdir()) == ["index.json", "tiny-rows.v1"]
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().err.startswith("error: tiny-rows.v1 is on the shelf already")


@pytest.mark.parametrize(
    ("name", "hidden", "words"),
    [("../x.v1", 4, r"NAME\.vN"), ("fisher.v1", 4, "built-in"), ("wide-rows.v1", 1024, "too much to ship")],
)
def test_what_does_not_fit_the_shelf_leaves_nothing_on_it(
    run: Path, shelf: Shelf, name: str, hidden: int, words: str
) -> None:
    PruneNet(PruneNetConfig(hidden=hidden), "rows").save(run / "best")
    with pytest.raises(UsageError, match=words):
        ship(run, name, shelf)
    assert [file.name for file in shelf.folder.iterdir()] == ["index.json"]


def test_a_caveat_leads_the_card_and_only_lowers_its_verdict(run: Path, shelf: Shelf) -> None:
    card = run / "best" / "card.json"
    data = json.loads(card.read_text())
    for number, (before, after) in enumerate((("beats", "ties"), ("loses", "loses")), 1):
        card.write_text(json.dumps({**data, "word": before}))
        ship(run, f"tiny-rows.v{number}", shelf, "Only on toys.")
        folder = shelf.verified(f"tiny-rows.v{number}")
        assert read_card(folder).word == after
        assert (folder / "README.md").read_text().startswith(f"**Only on toys. {data['verdict']}**")


def test_runs_without_a_card_or_with_places_of_one_machine_do_not_ship(run: Path, shelf: Shelf) -> None:
    card = run / "best" / "card.json"
    data = json.loads(card.read_text())
    card.write_text(json.dumps({**data, "models": ["/home/me/model"]}))
    with pytest.raises(UsageError, match="/home/me/model, which others don't have"):
        ship(run, "rows.v1", shelf)
    card.unlink()
    with pytest.raises(PrunePolicyError, match="Can't read the card"):
        ship(run, "rows.v1", shelf)


def test_the_shelf_that_ships_is_small() -> None:
    assert sum(file.stat().st_size for file in SHELF.rglob("*") if file.is_file()) < 10_000_000
