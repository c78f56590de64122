"""Signatures of a zoo's index: Ed25519 over its exact bytes, checked before any of them is parsed.

A signed index is one file, so that it changes in one step: a first line with the signatures by key, and
the signed text after it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from prunepolicy.policy.zoo import pinned_keys
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import as_sentence
from prunepolicy.pruning.io.bounded import open_regular, parsed_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PURPOSE = b"prunepolicy zoo index, format 1\n"
"""Signed in front of the index: a signature made for this purpose serves no other."""
MOST_HEADER_BYTES = 4096
MOST_KEY_BYTES = 4096
MOST_SIGNATURES = 8
PREFIX = re.compile(r"[a-z0-9][a-z0-9.-]*", re.ASCII)
KeyName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]


@dataclass(frozen=True)
class TrustedKey:
    """A public key, and the beginning of the names that it may sign for: `PREFIX:KEY`, or the key alone."""

    public: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> TrustedKey:
        """Read what settings say.

        Raises:
            UsageError: when it holds no key, or no name begins like that.
        """
        prefix, colon, public = text.rpartition(":")
        if colon and not PREFIX.fullmatch(prefix):
            raise UsageError(f"No policy's name begins with {prefix[:60]!r}; a key is PREFIX:KEY or KEY.")
        key_name(public)
        return cls(public, prefix)


@dataclass(frozen=True)
class Verified:
    """A signed text that is believed.

    Attributes:
        keys: names of the trusted keys that have signed it.
        prefixes: beginnings of the names that these may sign for; an empty one stands for all names.
    """

    text: bytes
    keys: tuple[str, ...]
    prefixes: tuple[str, ...]


class Signatures(BaseModel):
    """The first line of a signed index: signatures by the names of their keys."""

    model_config = ConfigDict(extra="forbid")
    signatures: Annotated[dict[KeyName, Base64], Field(max_length=MOST_SIGNATURES)]


def signed(text: bytes, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Return `text` under a line with a signature by every key."""
    signatures = {
        key_name(public_text(key)): base64.b64encode(key.sign(PURPOSE + text)).decode() for key in keys
    }
    return Signatures(signatures=signatures).model_dump_json().encode() + b"\n" + text


def verified(data: bytes, trusted: Iterable[str], where: str) -> Verified:
    """Return the text of a signed index after checking that a trusted key has signed it.

    Args:
        trusted: public keys, as `TrustedKey` reads them.
        where: what the index is called in sentences.

    Raises:
        PrunePolicyError: when no trusted key has signed it, or a trusted key's signature is wrong.
    """
    header, line_end, text = data.partition(b"\n")
    if not line_end or len(header) > MOST_HEADER_BYTES:
        raise PrunePolicyError(f"The index of {where} carries no signature.")
    try:
        signatures = Signatures.model_validate(parsed_json(header)).signatures
    except ValueError as error:
        raise PrunePolicyError(f"The index of {where} carries no readable signature.") from error
    believed = [key for key in map(TrustedKey.parse, trusted) if key.public not in pinned_keys.RETIRED]
    signers = [key for key in believed if key_name(key.public) in signatures]
    for key in signers:
        _check(key.public, base64.b64decode(signatures[key_name(key.public)]), text, where)
    if not signers:
        raise PrunePolicyError(_stranger(signatures, where))
    names = dict.fromkeys(key_name(key.public) for key in signers)
    return Verified(text, tuple(names), tuple(key.prefix for key in signers))


def _check(public: str, signature: bytes, text: bytes, where: str) -> None:
    crypto = _cryptography()
    key = crypto.Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    try:
        key.verify(signature, PURPOSE + text)
    except crypto.InvalidSignature as error:
        raise PrunePolicyError(
            f"The index of {where} was changed: the signature by key {key_name(public)} doesn't fit it."
        ) from error


def _stranger(signatures: Mapping[str, str], where: str) -> str:
    if not signatures:
        return f"The index of {where} isn't signed: sign it with `prunepolicy zoo sign`."
    retired = {key_name(key) for key in pinned_keys.RETIRED} & set(signatures)
    if retired:
        return f"The index of {where} is signed by the retired key {min(retired)} only; fetch a newer one."
    return (
        f"The index of {where} is signed by {', '.join(signatures)}, a key that isn't trusted here. "
        "A newer prunepolicy may pin it; if you trust its owner, add the public key to PRUNEPOLICY_ZOO_KEYS."
    )


def key_name(public: str) -> str:
    """Return the short name of a public key: the start of its SHA-256.

    Raises:
        UsageError: when it is no key.
    """
    try:
        raw = base64.b64decode(public, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise UsageError(f"{public[:60]!r} is no public key: that is 44 characters of base64.")
    return hashlib.sha256(raw).hexdigest()[:16]


def public_text(key: Ed25519PrivateKey) -> str:
    """Return the public half of a key, as users write it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def load_key(file: Path) -> Ed25519PrivateKey:
    """Read a private key in PEM.

    Raises:
        UsageError: when the file holds no Ed25519 key, or one that a password protects.
    """
    crypto = _cryptography()
    try:
        with open_regular(file) as stream:
            key = crypto.load_pem_private_key(stream.read(MOST_KEY_BYTES), None)
    except OSError as error:
        raise UsageError(f"Can't read the key {file}: {error.strerror or error}.") from error
    except (ValueError, TypeError, crypto.UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} holds no private key in PEM without a password.") from error
    if not isinstance(key, crypto.Ed25519PrivateKey):
        raise UsageError(f"{file} holds a key of another kind than Ed25519; `prunepolicy zoo key` makes one.")
    private: Ed25519PrivateKey = key
    return private


def load_keys(files: Sequence[Path]) -> list[Ed25519PrivateKey]:
    """Read the private keys to sign with.

    Raises:
        UsageError: when there is none.
    """
    if not files:
        raise UsageError(
            "A zoo's index is signed: give --key FILE (PRUNEPOLICY_ZOO_SIGNING_KEY); `prunepolicy zoo key` "
            "makes one."
        )
    return [load_key(file) for file in files]


def make_key(file: Path) -> str:
    """Write a new private key that only its owner can read, and return the public one.

    Raises:
        UsageError: when the file exists.
        PrunePolicyError: when it can't be written.
    """
    key = _cryptography().Ed25519PrivateKey.generate()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(_pem(key))
    except FileExistsError as error:
        raise UsageError(f"{file} exists; a key is never overwritten.") from error
    except OSError as error:
        raise as_sentence(error, file) from error
    return public_text(key)


def _pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _cryptography() -> Any:
    """Import what signs and verifies; without it nothing is believed.

    Raises:
        PrunePolicyError: when it isn't installed.
    """
    try:
        from prunepolicy.policy.zoo import ed25519
    except ImportError as error:
        raise PrunePolicyError("Signatures need a package: pip install cryptography.") from error
    return ed25519
