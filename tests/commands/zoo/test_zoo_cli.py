"""The zoo on the command line: what is printed, for people and programs, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.agents.training.train import train
from prunepolicy.cli import main, prune_main
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.zoo.signing import load_key, public_text
from prunepolicy.pruning.errors import PrunePolicyError

Captured = pytest.CaptureFixture[str]
NAME = "tiny-rows.v1"
LICENCE = ("--licence", "Apache-2.0")


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of one's own, with cache, settings and a key that is trusted."""
    for name in ("HF_ASSETS_CACHE", "PRUNEPOLICY_ZOO", "PRUNEPOLICY_ZOO_SIGNING_KEY", "PRUNEPOLICY_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    assert main(["zoo", "key", "key.pem"]) == 0
    monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", public_text(load_key(Path("key.pem"))))


@pytest.fixture
def run(invented: Callable[..., TrainReport]) -> str:
    """The folder of a run with a best policy and its card."""
    PruneNet(PruneNetConfig(hidden=4), "rows").save(Path("runs/rows/best"))
    write_policy_card(invented(0.9).card, Path("runs/rows/best"))
    return "runs/rows"


@pytest.fixture
def zoo(run: str) -> str:
    """A folder with a zoo, into which the run was pushed."""
    assert main(["zoo", "push", run, "--to", "zoo", "--as", NAME, "--key", "key.pem", *LICENCE]) == 0
    return "zoo"


def shown(capsys: Captured, *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["zoo", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.err == ""
    assert all(letter.isprintable() or letter == "\n" for letter in printed.out)
    return printed.out


def refused(capsys: Captured, *arguments: str, code: int) -> str:
    capsys.readouterr()
    assert main(["zoo", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


COMMANDS = ("list", "show", "pull", "verify", "push", "remove", "mirror", "sign", "key")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_speaks_json(command: str, capsys: Captured) -> None:
    said = shown(capsys, command, "--help")
    assert f"prunepolicy zoo {command}" in said
    assert "Example" in said
    assert "--json" in said


def test_what_ships_is_listed_shown_and_verified(capsys: Captured) -> None:
    assert "llama-graph.v1" in shown(capsys, "list")
    listed = json.loads(shown(capsys, "list", "--json"))
    assert all(entry["here"] for entry in listed["policies"].values())
    assert "# llama-graph.v1" in shown(capsys, "show", "llama-graph")
    assert json.loads(shown(capsys, "show", "llama-graph", "--json"))["card"]["kind"] == "graph"
    assert json.loads(shown(capsys, "verify", "--json"))["good"]
    assert Path(json.loads(shown(capsys, "pull", "llama-graph", "--json"))["folder"]).parent.name == "shipped"


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(run: str, capsys: Captured) -> None:
    for place in ("zoo", "hf://me/zoo"):
        said = shown(capsys, "push", run, "--to", place, "--as", NAME, "--dry-run", *LICENCE)
        assert said.startswith(f"Would send {NAME} 1.0.0 (Apache-2.0; learned by reinforce, seeds 0;")
        assert f"{NAME}/weights.safetensors" in said
    data = json.loads(
        shown(capsys, "push", run, "--to", "zoo", "--as", "tiny.llama-v2", "--dry-run", "--json", *LICENCE)
    )
    assert (data["sent"], data["entry"]["version"]) == (False, "2.0.0")
    assert not Path("zoo").exists()


def test_what_was_pushed_is_pulled_used_and_removed(
    zoo: str, model: Callable[..., str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(shown(capsys, "list", "--source", zoo, "--json"))["policies"][NAME]["here"] is False
    assert "--policy zoo:tiny-rows.v1" in shown(capsys, "show", "tiny-rows", "--source", zoo)
    monkeypatch.setenv("PRUNEPOLICY_ZOO", zoo)
    monkeypatch.setenv("PRUNEPOLICY_OFFLINE", "1")
    arguments = ["--keep", "0.8", "--of", "ffn", "--out", "small", "--no-measure", "--no-verify"]
    assert prune_main([model(), "--policy", "zoo:tiny-rows", *arguments]) == 0
    assert json.loads(Path("small/plan.json").read_text())["made_by"] == NAME
    assert json.loads(shown(capsys, "list", "--json"))["policies"][NAME]["here"] is True
    assert shown(capsys, "verify").startswith(f"{NAME}: ok.")
    assert shown(capsys, "remove", "tiny-rows").startswith(f"{NAME} is removed")
    assert "not pulled" in shown(capsys, "verify", NAME)
    assert "No policy 'tiny-rows' was pulled" in refused(capsys, "remove", "tiny-rows", code=2)


def test_a_mirror_is_a_source(zoo: str, capsys: Captured) -> None:
    assert json.loads(shown(capsys, "mirror", "copy", "--source", zoo, "--json"))["new"] == 1
    assert shown(capsys, "mirror", "copy", "--source", zoo).endswith("0 are new.\n")
    assert "is at" in shown(capsys, "pull", NAME, "--source", "copy")


def test_verify_fails_where_something_is_wrong(zoo: str, capsys: Captured) -> None:
    folder = Path(json.loads(shown(capsys, "pull", NAME, "--source", zoo, "--json"))["folder"])
    (folder / "README.md").write_text("changed")
    assert "bad." in shown(capsys, "verify", "--source", zoo, code=1)
    assert json.loads(shown(capsys, "verify", "--source", zoo, "--json", code=1))["good"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pull", "nothing"], 2, "There is no policy 'nothing' in the zoo at package"),
        (["pull", "no\x1b[31mthing"], 2, "There is no policy"),
        (["pull", "x", "--source", "ftp://x"], 2, "is no source of policies"),
        (["pull", "x", "--source", "hf://a/b"], 2, "can change at any time"),
        (["list", "--source", "nowhere"], 1, "Can't read nowhere/index.signed"),
        (["verify", "--rescore"], 2, "--rescore measures one policy; name it"),
        (["push", "runs/rows", "--to", "zoo", "--as", NAME], 2, "--licence, such as Apache-2.0"),
        (["push", "runs/rows", "--to", "zoo", "--as", NAME, *LICENCE], 2, "give --key FILE"),
        (["push", "runs/rows", "--to", "zoo", "--as", "Rows", *LICENCE], 2, "NAME.vN or NAME.TAG-vN"),
        (["push", "runs/rows", "--to", "zoo", *LICENCE], 2, "NAME.vN or NAME.TAG-vN"),
        (
            ["push", "runs/rows", "--to", "x://y", "--as", NAME, "--key", "key.pem", *LICENCE],
            2,
            "is no place to push to",
        ),
        (["push", "runs/rows", "--to", "zoo", "--as", NAME, "--licence", "my\nown"], 2, "licence"),
        (["push", "runs/rows", "--to", "zoo", "--as", NAME, "--version", "x", *LICENCE], 2, "version"),
        (
            ["push", "runs/none", "--to", "zoo", "--as", NAME, "--key", "key.pem", *LICENCE],
            2,
            "holds no policy",
        ),
        (["sign", "runs", "--key", "key.pem"], 1, "is no zoo"),
        (["sign", "runs"], 2, "give --key FILE"),
        (["key", "key.pem"], 2, "never overwritten"),
        (["mirror"], 2, "DIR"),
    ],
)
def test_wrong_requests_get_one_sentence(
    arguments: list[str], code: int, words: str, run: str, capsys: Captured
) -> None:
    said = refused(capsys, *arguments, code=code)
    assert words in said
    assert said.startswith("error: ")
    assert said.strip().isprintable()
    assert not Path("zoo").exists()


def test_a_zoo_signed_by_a_stranger_is_refused(
    zoo: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRUNEPOLICY_ZOO_KEYS")
    assert "a key that isn't trusted here" in refused(capsys, "list", "--source", zoo, code=1)
    assert shown(capsys, "key", "other.pem").startswith("other.pem is the private key")
    assert "isn't trusted here" in refused(capsys, "sign", zoo, "--key", "other.pem", code=1)
    assert shown(capsys, "sign", zoo, "--key", "key.pem", "--key", "other.pem").startswith("Signed with ")


def test_a_card_is_measured_again(model: Callable[..., str], capsys: Captured, tmp_path: Path) -> None:
    folder = Path(model("llama", num_hidden_layers=2))
    folder.rename(tmp_path / "judge")
    settings: dict[str, Any] = {
        "algorithm": "reinforce",
        "policy": {"kind": "prunenet", "hidden": 4, "samples": 4, "length": 12},
        "learner": {"choices_per_layer": 2},
        "models": ["judge"],
        "budgets": {"keep": [0.75, 0.5], "of": "ffn"},
        "max_steps": 1,
        "evaluation": {"every": 1, "samples": 2, "length": 12, "baselines": []},
        "dtype": "float32",
    }
    train(Recipe.model_validate(settings), Path("runs/judged"))
    push = ["push", "runs/judged", "--to", "zoo", "--as", "judged-rows.v1", "--key", "key.pem", *LICENCE]
    shown(capsys, *push)
    card = json.loads(Path("zoo/judged-rows.v1/card.json").read_text())
    assert card["cpu_seconds"] > 0
    verify = ["verify", "judged-rows", "--rescore", "--source", "zoo", "--json"]
    capsys.readouterr()
    assert main(["zoo", *verify]) == 0
    found = json.loads(capsys.readouterr().out)["rescore"]
    hardest = max(card["chosen"], key=lambda place: abs(card["chosen"][place]))
    assert found["where"] == hardest
    assert found["here"] == pytest.approx(card["chosen"][hardest], abs=1e-6)
    assert found["agrees"] is True
    lied = {place: score + 0.5 for place, score in card["chosen"].items()}
    best = Path("runs/judged/best/card.json")
    best.write_text(json.dumps({**json.loads(best.read_text()), "chosen": lied}))
    shown(capsys, *push[:5], "judged-rows.v2", *push[6:])
    capsys.readouterr()
    assert main(["zoo", "verify", "judged-rows.v2", "--rescore", "--source", "zoo"]) == 1
    assert "contradicted, with the very model that the card names." in capsys.readouterr().out
    best.write_text(json.dumps({**json.loads(best.read_text()), "evaluation_models": {}}))
    shown(capsys, *push[:5], "judged-rows.v3", *push[6:])
    capsys.readouterr()
    assert main(["zoo", "verify", "judged-rows.v3", "--rescore", "--source", "zoo"]) == 1
    assert "not confirmed. The card doesn't say by fingerprint" in capsys.readouterr().out
    (tmp_path / "judge").rename(tmp_path / "gone")
    Path(model("llama", num_hidden_layers=2, hidden_act="relu")).rename(tmp_path / "judge")
    said = refused(capsys, "verify", "judged-rows.v1", "--rescore", "--source", "zoo", code=1)
    assert "it needs one of judge, and none, or another of that name, is in this folder" in said


def test_a_witness_is_measured_by_whoever_has_that_model(
    model: Callable[..., str], run: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(model("llama", num_hidden_layers=2))
    monkeypatch.setattr("prunepolicy.commands.zoo.rescore.resolve", lambda name: folder)
    card = Path(run, "best", "card.json")
    evaluation = {"every": 1, "samples": 2, "length": 12, "text": None}
    data = json.loads(card.read_text())
    recipe = {**data["recipe"], "evaluation": evaluation, "budgets": {"of": "ffn", "keep": [0.75, 0.5]}}
    card.write_text(json.dumps({**data, "recipe": {**recipe, "dtype": "float32"}}))
    push = ["push", run, "--to", "zoo", "--as", NAME, "--key", "key.pem", *LICENCE]
    assert "is a folder here" in refused(capsys, *push, "--witness", str(folder), code=2)
    shown(capsys, *push, "--witness", "smollm2-135m")
    witness = json.loads(Path("zoo", NAME, "card.json").read_text())["witness"]
    assert witness["where"] == "smollm2-135m, keep 0.5 of ffn"
    assert f"{witness['score']:.4f} nats per token" in Path("zoo", NAME, "README.md").read_text()
    said = shown(capsys, "verify", NAME, "--rescore", "--source", "zoo")
    assert f"smollm2-135m, keep 0.5 of ffn: {witness['score']:.4f}" in said
    assert "confirmed." in said
    other = Path(model("llama", num_hidden_layers=2, hidden_act="relu"))
    monkeypatch.setattr("prunepolicy.commands.zoo.rescore.resolve", lambda name: other)
    assert "none, or another of that name" in refused(
        capsys, "verify", NAME, "--rescore", "--source", "zoo", code=1
    )


def test_the_models_of_what_ships_are_named_where_they_are_missing(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Path:
        raise PrunePolicyError(f"{name} comes with a package that isn't installed.")

    monkeypatch.setattr("prunepolicy.commands.zoo.rescore.resolve", missing)
    said = refused(capsys, "verify", "llama-graph", "--rescore", code=1)
    assert "needs one of models/gpt_neox-1m" in said
    assert "`make models` trains those" in said
