"""From a run to what ships."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.agents.learned_pruning.policy_card import read_card
from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.commands.zoo.ship import Addition, packed, ship
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.zoo import pinned_keys
from prunepolicy.policy.zoo.pull import pull
from prunepolicy.policy.zoo.signing import load_key, make_key
from prunepolicy.policy.zoo.sources.package import SHIPPED
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "measure" / "ship.py"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a key that is trusted."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(pinned_keys, "PINNED", (make_key(tmp_path / "key.pem"),))
    return tmp_path / "key.pem"


@pytest.fixture
def run(invented: Callable[..., TrainReport], tmp_path: Path) -> Path:
    """The folder of a run, with a best policy and its card."""
    best = tmp_path / "runs" / "rows" / "best"
    PruneNet(PruneNetConfig(hidden=4), "rows").save(best)
    write_policy_card(invented(0.9).card, best)
    return best.parent


def shipped(folder: Path, name: str) -> Path:
    return pull(Zoo.open(str(folder)), name)


def test_the_script_ships_a_runs_policy_under_its_new_name(
    run: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = tmp_path / "zoo"
    arguments = [str(SCRIPT), str(run), "tiny-rows.v1", "--to", str(zoo), "--key", str(key)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    folder = shipped(zoo, "tiny-rows.v1")
    assert load_policy_folder(folder).name == "tiny-rows.v1"
    assert read_card(folder).name == "tiny-rows.v1"
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: prunepolicy\nlicense: apache-2.0\n")
    assert f"\n\n**{read_card(run / 'best').verdict}**\n\n# tiny-rows.v1" in text
    assert "--policy tiny-rows.v1" in text
    assert sorted(file.name for file in zoo.iterdir()) == ["index.signed", "tiny-rows.v1"]
    with open(run / "best" / "policy.json", "r+") as file:
        changed = file.read().replace('"samples": 64', '"samples": 65')
        file.seek(0)
        file.write(changed)
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().err.startswith("error: tiny-rows.v1 is there already")


@pytest.mark.parametrize(
    ("name", "hidden", "words"),
    [("../x.v1", 4, r"NAME\.vN"), ("fisher.v1", 4, "built-in"), ("wide-rows.v1", 1024, "too much to ship")],
)
def test_what_does_not_fit_leaves_nothing(
    run: Path, key: Path, tmp_path: Path, name: str, hidden: int, words: str
) -> None:
    PruneNet(PruneNetConfig(hidden=hidden), "rows").save(run / "best")
    with pytest.raises(UsageError, match=words):
        ship(run, name, [load_key(key)], tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_caveat_leads_the_card_and_only_lowers_its_verdict(run: Path, key: Path, tmp_path: Path) -> None:
    card = run / "best" / "card.json"
    data = json.loads(card.read_text())
    for number, (before, after) in enumerate((("beats", "ties"), ("loses", "loses")), 1):
        card.write_text(json.dumps({**data, "word": before}))
        ship(run, f"tiny-rows.v{number}", [load_key(key)], tmp_path / "zoo", Addition("Only on toys."))
        folder = shipped(tmp_path / "zoo", f"tiny-rows.v{number}")
        assert read_card(folder).word == after
        assert f"\n\n**Only on toys. {data['verdict']}**" in (folder / "README.md").read_text()


def test_runs_without_a_card_or_with_places_of_one_machine_do_not_ship(run: Path) -> None:
    card = run / "best" / "card.json"
    data = json.loads(card.read_text())
    card.write_text(json.dumps({**data, "models": ["/home/me/model"]}))
    with pytest.raises(UsageError, match="/home/me/model, which others don't have"), packed(run, "rows.v1"):
        pass
    card.unlink()
    with pytest.raises(PrunePolicyError, match="Can't read the card"), packed(run, "rows.v1"):
        pass


def test_the_card_says_what_the_run_cost_over_all_seeds(run: Path) -> None:
    for seed, seconds in enumerate((60.0, 120.0)):
        folder = run / f"seed-{seed}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"commands": [], "cpu_seconds": seconds}))
    with packed(run, "rows.v1") as parcel:
        assert read_card(parcel.folder).cpu_seconds == 180
        assert "all seeds: 3.0 minutes." in (parcel.folder / "README.md").read_text()
    (run / "seed-0" / "run.json").write_text(json.dumps({"commands": []}))
    with packed(run, "rows.v1") as parcel:
        assert read_card(parcel.folder).cpu_seconds is None


def test_what_ships_is_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < 10_000_000
