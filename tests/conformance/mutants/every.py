"""All defects of the memory transport, registered."""

from __future__ import annotations

from tests.conformance.mutants import arrays, failure, identity, importing, lifecycle, plugin, transfer
from tests.conformance.mutants.base import MUTANTS

TOPICS = (arrays, failure, identity, importing, lifecycle, plugin, transfer)

__all__ = ["MUTANTS", "TOPICS"]
