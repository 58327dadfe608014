"""A function of the user's own that says what a response is worth, by its name."""

import importlib
from collections.abc import Callable
from typing import Any

from flywheel.errors import SettingsError

Verifier = Callable[..., float]  # prompt, response text, and a reference where it takes a third


def verifier_of(name: str) -> Verifier:
    """The function that "module:function" names.

    Raises:
        SettingsError: There is none.
    """
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"no verifier {name!r} ({error}); write 'module:function', of a module that Python "
            f"finds and a function(prompt, response_text) -> float"
        ) from error
    if not callable(found):
        raise SettingsError(f"verifier {name!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]
