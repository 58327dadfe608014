"""`flywheel upload` and `flywheel restore`."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from flywheel.errors import SettingsError
from flywheel.layout import Layout
from flywheel.stores.restore import restore
from flywheel.stores.settings import StorageSettings
from flywheel.stores.upload import upload


class Home(Protocol):
    """Where the data lie and how stores are reached."""

    @property
    def layout(self) -> Layout:
        """Every path of it."""

    @property
    def storage(self) -> StorageSettings:
        """Its object stores."""


def add_commands(add: Callable[..., argparse.ArgumentParser], home: Callable[[], Home]) -> None:
    """Add both commands to a parser."""

    def keep(arguments: argparse.Namespace) -> dict[str, Any]:
        return _run(arguments, home(), upload, remove=arguments.remove)

    def bring_back(arguments: argparse.Namespace) -> dict[str, Any]:
        return _run(arguments, home(), restore, new_salt=arguments.new_salt)

    one = add("upload", keep, "copy what is new to the object store of the lake, as landing does")
    one.add_argument("--remove", action="store_true", help="even that most of it is gone here")

    one = add("restore", bring_back, "bring this home up to the object store of the lake")
    one.add_argument(
        "--new-salt", action="store_true", help="do without the old secret of pseudonyms"
    )


def _run(
    arguments: argparse.Namespace, home: Home, act: Callable[..., Any], **options: bool
) -> dict[str, Any]:
    if not home.storage.lake:
        raise SettingsError(
            f"no store is set for the lake of {home.layout.root}; name one in its settings.toml: "
            f'[storage] lake = "s3://bucket/folder"'
        )
    say = (lambda line: None) if arguments.json else print
    facts = asdict(act(home.layout, home.storage, log=say, **options))
    if not arguments.json:
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
    return facts
