"""Byte views of the parts that a group moves."""

from __future__ import annotations

from nova.transport.api import Buffer


def flat(part: Buffer) -> memoryview:
    """A view of the part's bytes, without a copy; writable iff the part is. Raises ValueError unless contiguous."""
    view = part if type(part) is memoryview else memoryview(part)
    if view.format == "B" and view.ndim == 1 and view.c_contiguous:
        return view
    if not view.c_contiguous:
        raise ValueError(f"a part must be contiguous, this one has shape {view.shape} and strides {view.strides}")
    if not view.nbytes:
        return memoryview(b"") if view.readonly else memoryview(bytearray())
    try:
        return view.cast("B")
    except (ValueError, NotImplementedError):  # a format that memoryview does not know: MLX says "bfloat16"
        import numpy  # only here: plain buffers need no import of it

        return numpy.frombuffer(view, numpy.uint8).data


def writable(out: Buffer) -> memoryview:
    """As `flat`, for a destination. Raises ValueError if it cannot be written."""
    if type(out) is memoryview and out.format == "B" and out.c_contiguous and out.ndim == 1 and not out.readonly:
        return out  # as a rule; the calls that this saves are felt in a small round trip
    view = flat(out)
    if view.readonly:
        raise ValueError("a destination must be writable")
    return view
