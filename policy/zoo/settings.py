"""Where policies come from and who is believed: the command line first, the environment, then a file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from prunepolicy.policy.base import sentence_of
from prunepolicy.policy.zoo import pinned_keys
from prunepolicy.policy.zoo.signing import TrustedKey
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded

PACKAGE = "package"
SOURCE_VARIABLE = "PRUNEPOLICY_ZOO"
KEYS_VARIABLE = "PRUNEPOLICY_ZOO_KEYS"
SIGNING_KEY_VARIABLE = "PRUNEPOLICY_ZOO_SIGNING_KEY"
OFFLINE_VARIABLES = ("PRUNEPOLICY_OFFLINE", "HF_HUB_OFFLINE")
YES = ("1", "ON", "YES", "TRUE")


class ZooSettings(BaseModel):
    """The `[zoo]` part of `config.toml`.

    Attributes:
        source: what `--source` is when it isn't given.
        trusted_keys: public keys that are believed beside the pinned ones, except for what ships; one that
            is written `PREFIX:KEY` only for policies whose names begin like that.
    """

    model_config = ConfigDict(extra="forbid")
    source: str = PACKAGE
    trusted_keys: tuple[str, ...] = ()


class Settings(BaseModel):
    """The content of `config.toml`."""

    model_config = ConfigDict(extra="forbid")
    zoo: ZooSettings = ZooSettings()


def settings_file() -> Path:
    """Return where a user's settings are, by the XDG convention."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "prunepolicy" / "config.toml"


def zoo_settings() -> ZooSettings:
    """Return the settings of the file.

    Raises:
        UsageError: when it is damaged or has unknown keys.
    """
    file = settings_file()
    try:
        text = bounded.read_text(file)
    except OSError:
        return ZooSettings()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text.") from error
    try:
        return Settings.model_validate(tomllib.loads(text)).zoo
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is no TOML: {error}.") from error
    except ValidationError as error:
        raise UsageError(f"{file}: {sentence_of(error, ZooSettings)}.") from error


def configured_source(given: str | None = None) -> str:
    """Return the spelling of the source to use: the one given, or what environment and file say."""
    return given or os.environ.get(SOURCE_VARIABLE) or zoo_settings().source


def pinned() -> tuple[str, ...]:
    """Return the public keys that come with this version."""
    return pinned_keys.PINNED


def trusted() -> tuple[str, ...]:
    """Return the pinned keys and those that the user trusts.

    Raises:
        UsageError: when one of them is no key.
    """
    added = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    keys = (*pinned(), *zoo_settings().trusted_keys, *added)
    for key in keys:
        TrustedKey.parse(key)
    return keys


def offline() -> bool:
    """Return whether the user forbids the network."""
    return any(os.environ.get(name, "").upper() in YES for name in OFFLINE_VARIABLES)
