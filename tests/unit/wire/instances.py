"""Random messages of every kind, built from the declared types of their fields."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from nova.wire.kinds import KINDS
from nova.wire.messages import Message

SMALL = 3


def of_type(declared: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a field's type. An unknown type is an error, so that a new one gets its strategy here."""
    match declared:
        case inspect.IntType():
            return st.integers(-(2**63), 2**64 - 1)
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.StrType():
            return st.text(max_size=8)
        case inspect.BytesType():
            return st.binary(max_size=8)
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.AnyType():
            return st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4) | st.lists(st.integers(0, 9))
        case inspect.ListType(item_type=item):
            return st.lists(of_type(item), max_size=SMALL)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(of_type, items))
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(of_type(key), of_type(value), max_size=SMALL)
        case inspect.UnionType(types=types):
            return st.one_of(*map(of_type, types))
        case inspect.StructType(cls=struct, fields=fields):
            return st.builds(struct, **{field.name: of_type(field.type) for field in fields})
    raise AssertionError(f"no strategy for {declared}")


MESSAGES: dict[int, st.SearchStrategy[Message]] = {
    code: of_type(inspect.type_info(message)) for code, message in KINDS.items()
}
ANY_MESSAGE = st.one_of(*MESSAGES.values())
