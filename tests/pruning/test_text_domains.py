"""Domains of texts, and which of them do what."""

from __future__ import annotations

import torch

from prunepolicy.pruning.statistics.text_domains import domains_of, parts_of


def test_texts_of_one_kind_get_one_label() -> None:
    generator = torch.Generator().manual_seed(1)
    centres = 4 * torch.randn(4, 60, generator=generator)
    kinds = torch.arange(24) % 4
    labels = domains_of(centres[kinds] + 0.3 * torch.randn(24, 60, generator=generator), 4)
    assert len(set(labels)) == 4
    assert all(len({labels[n] for n in range(24) if kinds[n] == kind}) == 1 for kind in range(4))


def test_equal_seeds_divide_alike() -> None:
    logs = torch.randn(20, 30, generator=torch.Generator().manual_seed(2))
    assert domains_of(logs, 6, seed=3) == domains_of(logs, 6, seed=3)


def test_more_domains_than_texts_are_as_many_as_texts() -> None:
    logs = torch.randn(3, 30, generator=torch.Generator().manual_seed(2))
    assert len(set(domains_of(logs, 10))) == 3


def test_parts_share_no_domain_and_leave_none_out() -> None:
    parts = parts_of([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9], 0.2, 0.3)
    assert (len(parts.train), len(parts.validation), len(parts.held_out)) == (5, 2, 3)
    assert parts.train | parts.validation | parts.held_out == set(range(10))
    assert parts != parts_of(list(range(10)), 0.2, 0.3, seed=1)
