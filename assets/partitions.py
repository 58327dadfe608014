"""One partition per generation: one turn of the wheel, named g0001, g0002, ..."""

import re

import dagster as dg

from flywheel.errors import SettingsError

NAME_OF_ALL = "generation"
generations = dg.DynamicPartitionsDefinition(name=NAME_OF_ALL)

NAME = re.compile(r"g\d{4,}")


def ordered(instance: dg.DagsterInstance) -> list[str]:
    """Every generation so far, oldest first."""
    return sorted(instance.get_dynamic_partitions(NAME_OF_ALL), key=lambda name: int(name[1:]))


def name_after(known: list[str]) -> str:
    """The name of the generation that follows `known`."""
    return f"g{max((int(name[1:]) for name in known), default=0) + 1:04d}"


def add(instance: dg.DagsterInstance, generation: str) -> None:
    """Make `generation` a partition; nothing happens where it is one.

    Raises:
        SettingsError: The name is not g and at least four digits.
    """
    if not NAME.fullmatch(generation):
        raise SettingsError(f"a generation is named like g0001, got {generation!r}")
    instance.add_dynamic_partitions(NAME_OF_ALL, [generation])
