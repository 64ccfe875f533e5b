"""What the lab raises."""

from __future__ import annotations

from nova.errors import NovaError


class LabError(NovaError):
    """The lab could not do what it was told; the message names the host and what the system said."""


class LabUnavailable(LabError):
    """This machine cannot run the lab; the message is one sentence that says why and what to do."""
