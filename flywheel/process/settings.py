"""Settings from outside, checked by name and type before a process is started on them."""

import math
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from flywheel.errors import SettingsError

T = TypeVar("T")


def build(settings: type[T], chosen: dict[str, Any], **inputs: Any) -> T:
    """Make settings from what was chosen, refusing what the recipe does not know.

    A whole number is taken where a float is due; nothing else is converted.

    Raises:
        SettingsError: A name is unknown, a value is of another type, or one is missing.
    """
    known = {field.name: field for field in fields(settings)}  # type: ignore[arg-type]
    hints = get_type_hints(settings)
    values = {**{key: value for key, value in chosen.items() if key not in inputs}, **inputs}
    for name, value in values.items():
        if name not in known:
            raise SettingsError(
                f"{settings.__name__} has no setting {name!r}; it has {', '.join(sorted(known))}"
            )
        if hints[name] is float and type(value) is int:
            values[name] = float(value)
        elif type(value) is not hints[name] or value != value or value in (math.inf, -math.inf):
            raise SettingsError(
                f"{settings.__name__}.{name} must be a {hints[name].__name__}, got {value!r}"
            )
    missing = [
        name
        for name, field in known.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise SettingsError(f"{settings.__name__} needs {', '.join(missing)}")
    return settings(**values)
