"""Which devices and quantisation groups fit widths, said with what to prune instead."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from prunepolicy.cli import main
from prunepolicy.commands.doctor.doctor import doctor

Make = Callable[..., str]
WIDE = {"hidden_size": 64, "head_dim": 32, "intermediate_size": 96}
"""Four query heads of two KV heads, so that attention writes 128."""


def test_the_sizes_that_fit_are_listed(model: Make) -> None:
    found = doctor(model("llama", **WIDE))
    assert found.group_sizes == (16, 32)
    assert found.tensor_parallel == (1, 2)
    assert found.fits is None


@pytest.mark.parametrize(
    ("tp", "group", "sentences"),
    [
        (2, None, []),
        (None, 32, []),
        (2, 16, []),
        (4, None, ["2 KV heads don't divide among 4 devices."]),
        (
            5,
            None,
            ["2 KV heads", "96 FFN channels don't divide among 5 devices; prune with"],
        ),
        (2, 32, ["A width of 96 in FFN or attention isn't a multiple of 64"]),
        (None, 128, ["An input width of 64", "A width of 96 in FFN"]),
    ],
)
def test_what_does_not_fit_is_said(
    model: Make, tp: int | None, group: int | None, sentences: list[str]
) -> None:
    found = doctor(model("llama", **WIDE), None, tp, group)
    unfit = [problem for problem in found.problems if "divide" in problem or "multiple of" in problem]
    assert found.fits is (not sentences)
    assert len(unfit) == len(sentences)
    assert all(said.startswith(expected) for said, expected in zip(unfit, sentences, strict=True))


def test_gpt2_has_its_inputs_along_the_other_axis(model: Make) -> None:
    assert doctor(model("gpt2", n_embd=32, n_head=2, n_inner=64)).group_sizes == (16, 32)


def test_the_command_answers(model: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model("llama", **WIDE)
    assert main(["doctor", folder, "--tp", "2", "--group", "16"]) == 0
    said = capsys.readouterr().out
    assert "Quantisation group sizes: 16, 32" in said
    assert "What was asked for fits." in said
    assert main(["doctor", folder, "--tp", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is False
    assert main(["doctor", folder, "--group", "0"]) == 2
    assert "--tp and --group are 1 or more; got 0." in capsys.readouterr().err
