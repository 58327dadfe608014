"""Columns of landing that a file leaves empty where another column tells what they hold.

A bare string is one turn, whose JSON follows from its words; the id of a record that was given
none is the start of its hash; and a prompt without a group belongs with what opens alike, which of
one turn is its key. To write these anyway took two fifths of the bytes of a landing and half of the
time. `read_folder` fills them in, and so does `landed` in dbt; files that hold them, as all did
before, are read as they are.
"""

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

ID_DIGITS = 32  # of the hash of an event: the id of a record that was given none
_ENCODE = msgspec.json.Encoder().encode


def whole(table: pa.Table) -> pa.Table:
    """The table with every such column filled in, as far as the column that tells it is there."""
    names = set(table.column_names)
    for at, name in enumerate(table.column_names):
        teller = told_by(name)
        if teller in names and table.column(at).null_count:
            told = [_told(name, part) for part in table[teller].chunks]
            column = pc.coalesce(table.column(at), pa.chunked_array(told, pa.string()))
            table = table.set_column(at, table.schema.field(at), column)
    return table


def told_by(name: str) -> str:
    """The column that tells what `name` holds, in tables that have it."""
    return {"record_id": "content_sha256", "group_hint": "prompt_key"}.get(name, f"{name}_text")


def turn(role: str, text: str) -> str:
    """The JSON of a conversation of one turn without calls."""
    return f'[{{"role":"{role}","content":{_ENCODE(text).decode()}}}]'


def _told(name: str, values: pa.Array) -> pa.Array:
    if name == "record_id":
        return pc.utf8_slice_codeunits(values, 0, ID_DIGITS)
    if name == "group_hint":
        return pc.binary_join_element_wise("opening", values, " ")
    role = "user" if name == "prompt" else "assistant"
    once = values.dictionary_encode()
    made = [None if text is None else turn(role, text) for text in once.dictionary.to_pylist()]
    return pa.array(made, pa.string()).take(once.indices)
