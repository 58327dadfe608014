"""Definitions of the tools that a prompt could be answered with, in the shape chat models take.

They travel as JSON text, as they were delivered, because the key of the prompt tells of them.
OpenAI, TRL and chat templates want `{"type": "function", "function": {"name", ...}}`; a function
that stands there bare, as ShareGPT has it, or flat, as OpenAI's Responses have it, is put in it.
"""

from typing import Any

import msgspec


def load_tools(text: str | None) -> list[dict[str, Any]] | None:
    """Definitions from JSON text, each as chat models take it; empty where there are none.

    None where there are some that are no list of objects: what they are nobody can say.
    """
    try:
        tools = msgspec.json.decode(text or "[]")
    except msgspec.DecodeError:
        return None
    if not tools:
        return []
    if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
        return None
    return [_as_function(one) for one in tools]


def _as_function(tool: dict[str, Any]) -> dict[str, Any]:
    is_bare = isinstance(tool.get("name"), str) and tool.get("type", "function") == "function"
    if not is_bare or "function" in tool:
        return tool
    said = {key: item for key, item in tool.items() if key != "type"}
    return {"type": "function", "function": said}
