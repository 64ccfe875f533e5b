"""Benches: what Nova costs on this machine, beside the same work done bare, in the same run."""
