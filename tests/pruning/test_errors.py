"""Sentences carry no secrets."""

from __future__ import annotations

import pytest

from prunepolicy.pruning.errors import PrunePolicyError, UsageError, redacted


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hush@head:8265/x", "https://hush@host/x", "ray://me:hush@head:10001", "me:hush@head:6379",
        "http://me:a@hush@head", "http://me:a/hush@head", "https://host/file?token=hush&x=1",
        "--address=http://me:hush@head", "'http://me:hush@head'", "http://me:hush@[::1]:80/",
    ],
)  # fmt: skip
def test_addresses_lose_what_is_secret_and_keep_their_host(address: str) -> None:
    for said in (redacted(f"Nothing answers at {address}."), str(UsageError(f"{address!r} is no address."))):
        assert "hush" not in said
        assert "me:" not in said
        assert "head" in said or "host" in said or "::1" in said


@pytest.mark.parametrize(
    "text",
    ["hf://user/repo@v1", "http://head:8265/a@b", "an @ b", "https://host/zoo@v2", "zoo:rows.v1", "a: b@c"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
    assert str(PrunePolicyError(text)) == text
