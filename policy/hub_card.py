"""The head of a policy's README.md, by which the Hugging Face hub finds and labels it."""

from __future__ import annotations

import yaml

CARD = "README.md"


def front_matter(kind: str, licence: str = "apache-2.0") -> str:
    """Return the YAML that a hub card begins with."""
    fields = {
        "library_name": "prunepolicy",
        "license": licence.lower(),
        "tags": ["prunepolicy", "pruning", "model-compression", f"policy-{kind}"],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n\n"
