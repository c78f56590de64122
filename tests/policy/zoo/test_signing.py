"""Signatures: what is believed, what isn't, and how keys are changed."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prunepolicy.cli import main
from prunepolicy.policy.zoo import pinned_keys
from prunepolicy.policy.zoo.push import sign_again
from prunepolicy.policy.zoo.settings import settings_file, trusted
from prunepolicy.policy.zoo.signing import (
    PURPOSE,
    key_name,
    load_key,
    make_key,
    public_text,
    signed,
    verified,
)
from prunepolicy.policy.zoo.sources import package
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

OLD, NEW, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
TEXT = b'{"schema_version":1}\n'


def pin(
    monkeypatch: pytest.MonkeyPatch, pinned: list[Ed25519PrivateKey], retired: list[Ed25519PrivateKey]
) -> None:
    monkeypatch.setattr(pinned_keys, "PINNED", tuple(map(public_text, pinned)))
    monkeypatch.setattr(pinned_keys, "RETIRED", tuple(map(public_text, retired)))


def test_the_pinned_keys_are_keys() -> None:
    names = {key_name(key) for key in (*pinned_keys.PINNED, *pinned_keys.RETIRED)}
    assert len(names) == len(pinned_keys.PINNED) + len(pinned_keys.RETIRED) >= 1


@pytest.mark.parametrize("place", range(0, 220, 7))
def test_any_changed_byte_is_noticed(place: int) -> None:
    data = bytearray(signed(TEXT, [OLD]))
    place = min(place, len(data) - 1)
    data[place] ^= 1
    with pytest.raises(PrunePolicyError) as caught:
        verified(bytes(data), [public_text(OLD)], "x")
    assert str(caught.value).isprintable()


def test_a_signature_for_another_purpose_is_none() -> None:
    raw = signed(TEXT, [OLD])
    assert verified(raw, [public_text(OLD)], "x").text == TEXT
    other = signed(TEXT.removeprefix(PURPOSE), [OLD]).replace(b"prunepolicy", b"prunepolicy")
    assert other == raw
    with pytest.raises(PrunePolicyError, match="was changed"):
        verified(raw.replace(TEXT, PURPOSE + TEXT), [public_text(OLD)], "x")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "carries no signature"),
        (TEXT, "no readable signature"),
        (b'{"signatures":{}}\n' + TEXT, "isn't signed"),
        (b'{"signatures":{"../x":"AA=="}}\n' + TEXT, "no readable signature"),
        (b'{"signatures":[]}\n' + TEXT, "no readable signature"),
        (b"{" * 4000 + b"\n" + TEXT, "no readable signature"),
        (b" " * 5000 + b"\n" + TEXT, "carries no signature"),
        (signed(TEXT, [STRANGER]), "a key that isn't trusted here"),
    ],
)
def test_what_nobody_trusted_has_signed_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(PrunePolicyError, match=words):
        verified(data, [public_text(OLD)], "x")


def test_keys_rotate_without_a_day_on_which_somebody_can_believe_nothing(
    zoo_folder: Path, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions: `first` pins the old key, `second` both, `third` the new one and retires the old."""
    versions = {"first": ([key], []), "second": ([key, NEW], []), "third": ([NEW], [key])}

    def believers() -> set[str]:
        names = set()
        for version, (pinned, retired) in versions.items():
            pin(monkeypatch, pinned, retired)
            with suppress(PrunePolicyError):
                Zoo.open(str(zoo_folder))
                names.add(version)
        return names

    assert believers() == {"first", "second"}
    with pytest.raises(PrunePolicyError, match="retired key"):
        Zoo.open(str(zoo_folder))
    pin(monkeypatch, *versions["second"])
    sign_again(zoo_folder, [key, NEW])
    assert believers() == {"first", "second", "third"}
    pin(monkeypatch, *versions["second"])
    sign_again(zoo_folder, [NEW])
    assert believers() == {"second", "third"}


def test_a_retired_key_is_not_trusted_by_the_user_either(monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, [NEW], [OLD])
    monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", public_text(OLD))
    with pytest.raises(PrunePolicyError, match=f"by the retired key {key_name(public_text(OLD))} only"):
        verified(signed(TEXT, [OLD]), trusted(), "x")


def test_users_trust_keys_of_others_but_not_for_what_ships(
    zoo_folder: Path, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, [OLD], [])
    with pytest.raises(PrunePolicyError, match="isn't trusted here"):
        Zoo.open(str(zoo_folder))
    monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", f"{public_text(STRANGER)}, {public_text(key)}")
    assert len(Zoo.open(str(zoo_folder)).index.policies) == 2
    monkeypatch.setattr(package, "SHIPPED", zoo_folder)
    with pytest.raises(PrunePolicyError, match="isn't trusted here"):
        Zoo.open("package")
    monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", "nonsense")
    with pytest.raises(UsageError, match="'nonsense' is no public key"):
        Zoo.open(str(zoo_folder))


def test_settings_come_from_a_file(
    zoo_folder: Path, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, [OLD], [])
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text(f'[zoo]\nsource = "{zoo_folder}"\ntrusted_keys = ["{public_text(key)}"]\n')
    assert Zoo.open().source.spelling == str(zoo_folder)
    monkeypatch.setenv("PRUNEPOLICY_ZOO", "package")
    assert Zoo.open(str(zoo_folder)).source.spelling == str(zoo_folder)
    for text, words in (
        ("[zoo]\nsuorce = 1\n", "Did you mean 'source'"),
        ("[zoo", "is no TOML"),
        ("[zoo]\nsource = 1", "string"),
    ):
        settings_file().write_text(text)
        with pytest.raises(UsageError, match=words):
            Zoo.open(str(zoo_folder))


def test_without_cryptography_nothing_is_believed(zoo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prunepolicy.policy.zoo.ed25519", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    import prunepolicy.policy.zoo as zoo

    monkeypatch.delattr(zoo, "ed25519", raising=False)
    with pytest.raises(PrunePolicyError, match="pip install cryptography"):
        Zoo.open(str(zoo_folder))


def test_keys_are_made_for_their_owner_only_and_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "zoo.pem"
    assert main(["zoo", "key", str(file)]) == 0
    public = public_text(load_key(file))
    assert public in capsys.readouterr().out
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="never overwritten"):
        make_key(file)
    assert public_text(load_key(file)) == public


def encoded(key: object, password: bytes | None = None) -> bytes:
    kind = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        encoded(OLD, b"password"),
        encoded(OLD)[:60],
        encoded(generate_private_key(SECP256R1())),
    ],
)
def test_files_that_hold_no_key_of_the_kind_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(UsageError, match=r"key\.pem holds"):
        load_key(tmp_path / "key.pem")
    with pytest.raises(UsageError, match="Can't read the key"):
        load_key(tmp_path / "missing.pem")
