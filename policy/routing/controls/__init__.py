"""Where a request carries its budget, one file per kind of server."""

from prunepolicy.policy.routing.controls.registry import controls

__all__ = ["controls"]
