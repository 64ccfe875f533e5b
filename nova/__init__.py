"""Nova runs one language model over several machines, on the fastest link that really works."""

__version__ = "0.1.0"
