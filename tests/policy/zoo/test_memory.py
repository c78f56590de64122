"""What was seen of a zoo is remembered by its key: no older index, no changed version, whoever shows it."""

from __future__ import annotations

import logging
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.cli import main
from prunepolicy.policy.zoo import pinned_keys
from prunepolicy.policy.zoo.cache import zoo_cache
from prunepolicy.policy.zoo.index import Index
from prunepolicy.policy.zoo.push import sign_again
from prunepolicy.policy.zoo.signing import key_name, public_text, signed
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

ROWS = "tiny-rows.v1"


@pytest.fixture
def old(zoo_folder: Path, put: Any, tmp_path: Path, key: Any) -> Path:
    """A copy of the zoo before its newest policy, which was seen."""
    copy = Path(shutil.copytree(zoo_folder, tmp_path / "old"))
    put(zoo_folder, "tiny-rows.v2")
    Zoo.open(str(zoo_folder))
    return copy


def kept(key: Any) -> list[Path]:
    return sorted(file for file in (zoo_cache() / "seen" / key_name(public_text(key))).iterdir())


def test_an_older_index_is_refused_wherever_it_is_shown(old: Path, serve: Any) -> None:
    server = serve(old)
    port = server.server_address[1]
    for spelling in (str(old), f"{old}/.", server.address, f"http://localhost:{port}/"):
        with pytest.raises(
            PrunePolicyError, match=r"older index \(serial 2\) than it has shown before \(3\)"
        ):
            Zoo.open(spelling)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 500])
@pytest.mark.parametrize("which", [0, 1])
def test_damage_to_one_file_loses_nothing(old: Path, key: Any, damage: bytes, which: int) -> None:
    kept(key)[which].write_bytes(damage)
    with pytest.raises(PrunePolicyError, match="older index"):
        Zoo.open(str(old))


def test_damage_to_all_files_is_said_and_a_flipped_digit_is_damage(old: Path, key: Any) -> None:
    for file in kept(key):
        file.write_bytes(file.read_bytes().replace(b'"":3', b'"":1'))
    with pytest.raises(PrunePolicyError, match=r"is damaged; delete .*seen"):
        Zoo.open(str(old))


def relisted(folder: Path, key: Any, **changes: Any) -> None:
    """Sign the zoo's index again with another entry for a policy, as a thief of the key would."""
    index = Zoo.open(str(folder)).index
    entry = index.policies[ROWS].model_copy(update=changes)
    text = Index(
        schema_version=1, serial=index.serial + 1, policies={**index.policies, ROWS: entry}
    ).to_bytes()
    (folder / "index.signed").write_bytes(signed(text, [key]))


def test_a_version_never_changes_even_after_it_was_away(zoo_folder: Path, key: Any) -> None:
    index = Zoo.open(str(zoo_folder)).index
    files = index.policies[ROWS].files
    other = {**files, "policy.json": files["policy.json"].model_copy(update={"sha256": "0" * 64})}
    away = Index(schema_version=1, serial=index.serial + 1, policies={})
    (zoo_folder / "index.signed").write_bytes(signed(away.to_bytes(), [key]))
    Zoo.open(str(zoo_folder))
    entry = index.policies[ROWS].model_copy(update={"files": other, "version": "1.7.0"})
    back = Index(schema_version=1, serial=index.serial + 2, policies={ROWS: entry})
    (zoo_folder / "index.signed").write_bytes(signed(back.to_bytes(), [key]))
    with pytest.raises(PrunePolicyError, match=r"lists tiny-rows\.v1 with other files than before"):
        Zoo.open(str(zoo_folder))


def test_a_card_changes_only_with_its_version(zoo_folder: Path, key: Any) -> None:
    files = Zoo.open(str(zoo_folder)).index.policies[ROWS].files
    other = {**files, "README.md": files["README.md"].model_copy(update={"sha256": "0" * 64})}
    relisted(zoo_folder, key, files=other, version="1.0.1")
    Zoo.open(str(zoo_folder))
    again = {**files, "README.md": files["README.md"].model_copy(update={"sha256": "1" * 64})}
    relisted(zoo_folder, key, files=again)
    with pytest.raises(PrunePolicyError, match=r"lists tiny-rows\.v1 1\.0\.1 with other files"):
        Zoo.open(str(zoo_folder))


def test_an_index_past_its_day_warns_and_works(
    zoo_folder: Path, key: Any, put: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = (zoo_folder / "index.signed").read_bytes()
    assert b"expires" not in before
    for day, warnings in ((date(2999, 1, 1), 0), (date(2020, 1, 31), 1)):
        sign_again(zoo_folder, [key], day)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert ROWS in Zoo.open(str(zoo_folder)).index.policies
        assert len(caplog.messages) == warnings
    assert "was current until 2020-01-31" in caplog.text
    put(zoo_folder, "tiny-rows.v2")
    assert Zoo.open(str(zoo_folder)).index.expires == date(2020, 1, 31)


def test_a_key_may_be_bound_to_names_that_begin_alike(
    zoo_folder: Path, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned_keys, "PINNED", ())
    for prefix, good in (("tiny-", True), ("tiny", True), ("tiny-rows", False), ("acme-", False)):
        monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", f"{prefix}:{public_text(key)}")
        if good:
            Zoo.open(str(zoo_folder))
            continue
        with pytest.raises(PrunePolicyError, match=f"only for names that begin with {prefix}"):
            Zoo.open(str(zoo_folder))
    monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", f"../x:{public_text(key)}")
    with pytest.raises(UsageError, match="No policy's name begins with"):
        Zoo.open(str(zoo_folder))


def test_the_day_is_set_by_signing(zoo_folder: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    assert main(["zoo", "key", str(tmp_path / "k.pem")]) == 0
    arguments = ["zoo", "sign", str(zoo_folder), "--key", str(tmp_path / "k.pem"), "--expires"]
    assert main([*arguments, "2999-12-31"]) == 0
    assert b'"expires": "2999-12-31"' in (zoo_folder / "index.signed").read_bytes()
    assert main([*arguments, "soon"]) == 2
