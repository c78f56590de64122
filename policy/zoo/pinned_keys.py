"""The public keys (Ed25519, base64 of 32 bytes) whose signatures this version believes.

To rotate: pin the next key beside this one and release; sign with both (`prunepolicy zoo sign DIR --key OLD
--key NEW`); a release later move the old one to `RETIRED` and sign with the new one alone. A key that leaked
moves to `RETIRED` at once. docs/zoo.md says more.
"""

from __future__ import annotations

PINNED: tuple[str, ...] = ("Mk+WkcAhPkngBOaJ6UhtWCehg5rRJiA2JN7qgTaN2VQ=",)
RETIRED: tuple[str, ...] = ("deP+lW7cDmAiw8RU7HZktL8F1JmZi6qrRpOxGOhzS9k=",)
"""Keys that were pinned once. What only they have signed is refused, with a sentence that says so."""
