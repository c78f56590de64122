"""Zoos in folders: pushing, mirroring, removing, and what happens on the way when something breaks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prunepolicy.policy.load import load_policy
from prunepolicy.policy.zoo import push as push_module
from prunepolicy.policy.zoo import remove as remove_module
from prunepolicy.policy.zoo.cache import policy_place, zoo_cache
from prunepolicy.policy.zoo.index import Listing
from prunepolicy.policy.zoo.mirror import mirror
from prunepolicy.policy.zoo.pull import find_policy, pull, read_policy
from prunepolicy.policy.zoo.push import Parcel, push, sign_again
from prunepolicy.policy.zoo.signing import public_text
from prunepolicy.policy.zoo.sources import source_of, sources
from prunepolicy.policy.zoo.verify import verify
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import MissingExtraError, PrunePolicyError, UsageError

ROWS, FISHER = "tiny-rows.v1", "tiny-fisher.llama-v1"
Names = Callable[[], list[str]]


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(".lock"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_every_spelling_means_one_source() -> None:
    spellings = ["package", "zoo", "/zoo", "~/zoo", "http://x/y", "https://x", "hf://a/b@v1"]
    for spelling in spellings:
        assert len([name for name in sources if sources[name].claims(spelling)]) == 1
    assert [type(source_of(spelling)).__name__ for spelling in spellings] == [
        "Package", "Directory", "Directory", "Directory", "Http", "Http", "Hub",
    ]  # fmt: skip


def test_a_policy_is_pulled_from_a_folder_and_outlives_it(
    zoo_folder: Path, monkeypatch: pytest.MonkeyPatch, installed: Names
) -> None:
    monkeypatch.setenv("PRUNEPOLICY_ZOO", str(zoo_folder))
    assert load_policy("zoo:tiny-rows").name == ROWS
    shutil.rmtree(zoo_folder)
    assert load_policy("zoo:tiny-rows.v1").name == ROWS
    with pytest.raises(PrunePolicyError, match="No such file"):
        load_policy(f"zoo:{FISHER}")
    assert installed() == [ROWS]


def test_pulled_files_that_rot_are_put_aside_and_brought_again(zoo_folder: Path, quarantined: Names) -> None:
    zoo = Zoo.open(str(zoo_folder))
    folder = pull(zoo, ROWS)
    (folder / "weights.safetensors").write_bytes(b"rot")
    assert [finding.state for finding in verify(zoo, [ROWS, FISHER])] == ["bad", "not pulled"]
    assert read_policy(*find_policy(ROWS, str(zoo_folder))).folder == folder
    assert verify(zoo, [ROWS])[0].state == "ok"
    assert len(quarantined()) == 1


def test_a_policy_that_lacks_an_extra_is_not_called_bad(
    zoo_folder: Path, quarantined: Names, installed: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = Zoo.open(str(zoo_folder))

    def lacking(folder: Path) -> None:
        raise MissingExtraError("Row policies need", "train")

    with monkeypatch.context() as bare:
        bare.setattr("prunepolicy.policy.zoo.pull.load_policy_folder", lacking)
        with pytest.raises(MissingExtraError, match=r"Row policies need an extra: pip install"):
            pull(zoo, ROWS)
    assert not installed()
    pull(zoo, ROWS)
    monkeypatch.setattr("prunepolicy.policy.zoo.pull.load_policy_folder", lacking)
    (finding,) = verify(zoo, [ROWS])
    assert finding.state == "not opened"
    assert "need an extra" in finding.sentence
    assert not quarantined()


def sign_with_another_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder the zoo of somebody else, who is trusted, too."""
    other = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    sign_again(folder, [other])
    monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", public_text(other))


def test_equal_names_of_different_zoos_do_not_mix(
    zoo_folder: Path, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "other", ROWS, hidden=5)
    sign_with_another_key(tmp_path / "other", monkeypatch)
    folders = {pull(Zoo.open(str(zoo)), ROWS) for zoo in (zoo_folder, tmp_path / "other")}
    assert len(folders) == 2
    assert {load_policy(folder).config.hidden for folder in folders} == {4, 5}  # type: ignore[attr-defined]


def test_versions_never_change_but_their_cards_may(put: Any, tmp_path: Path, key: Any) -> None:
    zoo = tmp_path / "zoo"
    put(zoo, ROWS)
    before = contents(zoo)
    with pytest.raises(UsageError, match="its decisions never change"):
        put(zoo, ROWS, hidden=5)
    parcel = Parcel(ROWS, zoo / ROWS, Zoo.open(str(zoo)).index.policies[ROWS])
    with pytest.raises(UsageError, match="needs a higher one"):
        push(parcel, zoo, [key])
    assert contents(zoo) == before
    parcel = Parcel(ROWS, Path(shutil.copytree(zoo / ROWS, tmp_path / "amended")), parcel.entry)
    (parcel.folder / "README.md").write_text("a better card\n")
    for version, words in (("2.0.0", "can't have the version 2.0.0"), ("1.0.0", "needs a higher one")):
        with pytest.raises(UsageError, match=words):
            push(Parcel.of(ROWS, parcel.folder, Listing(version=version)), zoo, [key])
    push(Parcel.of(ROWS, parcel.folder, Listing(version="1.0.1")), zoo, [key])
    opened = Zoo.open(str(zoo))
    assert opened.index.serial == 2
    assert (pull(opened, ROWS) / "README.md").read_text() == "a better card\n"


def test_parcels_hold_a_policys_files_and_no_others(put: Any, tmp_path: Path) -> None:
    parcel = put(tmp_path / "zoo", ROWS)
    with pytest.raises(PrunePolicyError, match=r"holds the policy 'tiny-rows\.v1', not other\.v1"):
        Parcel.of("other.v1", parcel.folder, Listing(version="1.0.0"))
    (parcel.folder / "README.md").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(UsageError, match=r"README\.md may have 1048576 bytes at most"):
        Parcel.of(ROWS, parcel.folder, Listing(version="1.0.0"))
    (parcel.folder / "setup.py").touch()
    with pytest.raises(UsageError, match=r"holds setup\.py"):
        Parcel.of(ROWS, parcel.folder, Listing(version="1.0.0"))


def test_a_zoo_of_strangers_is_neither_extended_nor_signed(
    zoo_folder: Path, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunepolicy.policy.zoo import pinned_keys

    parcel = put(tmp_path / "other", "tiny-rows.v2")
    before, mine = contents(zoo_folder), Ed25519PrivateKey.generate()
    monkeypatch.setattr(pinned_keys, "PINNED", ())
    for action in (lambda: push(parcel, zoo_folder, [mine]), lambda: sign_again(zoo_folder, [mine])):
        with pytest.raises(PrunePolicyError, match="isn't trusted here"):
            action()
    assert contents(zoo_folder) == before


def test_only_what_the_index_lists_is_signed(zoo_folder: Path, key: Any) -> None:
    (zoo_folder / ROWS / "README.md").write_text("changed")
    before = contents(zoo_folder)
    with pytest.raises(PrunePolicyError, match="Nothing was signed"):
        sign_again(zoo_folder, [key])
    assert contents(zoo_folder) == before
    with pytest.raises(PrunePolicyError, match="is no zoo"):
        sign_again(zoo_folder / ROWS, [key])


@pytest.mark.parametrize("step", ["copytree", "replace_folder", "write_bytes"])
def test_a_push_that_breaks_leaves_the_old_zoo(
    zoo_folder: Path, put: Any, tmp_path: Path, key: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel = put(tmp_path / "other", "tiny-rows.v2")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        target = push_module.shutil if step == "copytree" else push_module
        patch.setattr(target, step, fail)
        with pytest.raises(PrunePolicyError, match="disk is full"):
            push(parcel, zoo_folder, [key])
    zoo = Zoo.open(str(zoo_folder))
    assert list(zoo.index.policies) == [FISHER, ROWS]
    assert load_policy(pull(zoo, ROWS)).name == ROWS
    push(parcel, zoo_folder, [key])
    assert "tiny-rows.v2" in Zoo.open(str(zoo_folder)).index.policies


def test_a_mirror_is_the_zoo_byte_by_byte_and_follows_it(zoo_folder: Path, put: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert mirror(Zoo.open(str(zoo_folder)), copy) == 2
    assert contents(copy) == contents(zoo_folder)
    put(zoo_folder, "tiny-rows.v2")
    (copy / ROWS / "README.md").write_text("changed")
    came: list[str] = []
    assert mirror(Zoo.open(str(zoo_folder)), copy, came.append) == 2
    assert sorted(came) == [ROWS, "tiny-rows.v2"]
    assert contents(copy) == contents(zoo_folder)
    assert mirror(Zoo.open(str(copy)), tmp_path / "copy of the copy") == 3


def test_what_is_no_policy_is_not_replaced(zoo_folder: Path, put: Any, tmp_path: Path, key: Any) -> None:
    copy, parcel = tmp_path / "copy", put(tmp_path / "other", "tiny-rows.v2")
    for place in (copy / ROWS, zoo_folder / parcel.name):
        place.mkdir(parents=True)
        (place / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"holds thesis\.txt, which belongs to no policy"):
        mirror(Zoo.open(str(zoo_folder)), copy)
    with pytest.raises(UsageError, match=r"holds thesis\.txt, which belongs to no policy"):
        push(parcel, zoo_folder, [key])
    assert (copy / ROWS / "thesis.txt").read_text() == "precious"


def test_a_mirror_that_breaks_off_keeps_its_old_index_and_continues(
    server: Any, put: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    mirror(Zoo.open(server.address), copy)
    old = contents(copy)
    put(server.root, "tiny-rows.v2")
    place = "/tiny-rows.v2/weights.safetensors"
    server.behaviours[place] = lambda handler, content: handler.answer(404, b"")
    with pytest.raises(PrunePolicyError, match="There is no http"):
        mirror(Zoo.open(server.address), copy)
    assert (copy / "index.signed").read_bytes() == old["index.signed"]
    assert load_policy(copy / ROWS).name == ROWS
    del server.behaviours[place]
    server.asked.clear()
    assert mirror(Zoo.open(server.address), copy) == 1
    assert [path for path, _ in server.asked] == ["/index.signed", place]
    assert contents(copy) == contents(server.root)


def test_only_pulled_policies_are_removed_and_all_of_them(
    zoo_folder: Path, put: Any, tmp_path: Path, installed: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "other", ROWS, hidden=5)
    sign_with_another_key(tmp_path / "other", monkeypatch)
    for folder in (zoo_folder, tmp_path / "other"):
        pull(Zoo.open(str(folder)), ROWS)
    name, freed = remove_module.remove("tiny-rows")
    assert name == ROWS
    assert freed > 1000
    assert installed() == []
    with pytest.raises(UsageError, match=r"No policy 'tiny-rows' was pulled"):
        remove_module.remove("tiny-rows")
    with pytest.raises(UsageError, match=r"No policy '\.\./indexes' was pulled"):
        remove_module.remove("../indexes")
    assert list((zoo_cache() / "indexes").iterdir())


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"HF_HOME": "/h"}, "/h/assets"),
        ({"HF_HOME": "/h", "HF_ASSETS_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/assets"),
        ({"HOME": "/u"}, "/u/.cache/huggingface/assets"),
    ],
)
def test_the_cache_is_where_the_hubs_conventions_say(
    settings: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_ASSETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert zoo_cache() == Path(place) / "prunepolicy" / "zoo"


def test_a_cache_that_can_not_be_written_is_named(
    zoo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = Zoo.open(str(zoo_folder))
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    with pytest.raises(PrunePolicyError, match="Can't write"):
        pull(zoo, ROWS)


def test_an_index_with_a_name_that_is_a_path_never_reaches_the_disk(zoo_folder: Path) -> None:
    entry = Zoo.open(str(zoo_folder)).index.policies[ROWS]
    with pytest.raises(UsageError, match=r"NAME\.vN"):
        Zoo.open(str(zoo_folder)).index.with_policy("../x.v1", entry)
    assert policy_place(ROWS, entry).is_relative_to(zoo_cache())
    assert os.sep not in entry.digest
