"""What becomes of personal data, source by source, and the pseudonyms that stand in their place.

* `exclude` (the default): the record lands as it is, and trains nothing.
* `redact`: placeholders such as `<EMAIL_1a2b3c4d>` land, and are trained on; what was there before
  goes to the restricted folder. One value has one placeholder in this home, whatever the source.
* `refuse`: the line is quarantined, its bytes redacted; what it said goes to the restricted folder.
* `allow`: the record lands as it is, and is trained on.

A source here is the folder that a file was delivered in, or the name given when it was landed: a
record cannot change its policy by naming another source.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from flywheel.errors import SettingsError
from flywheel.layout import Layout
from flywheel.privacy.kinds import NAMES
from flywheel.privacy.originals import open_restricted, write_private

POLICIES = ("exclude", "redact", "refuse", "allow")
KEY_FILE = "pseudonyms.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`[personal_data]` of settings.toml.

    Attributes:
        policy: Of every source that `sources` does not name.
        sources: Policy by source.
        kinds: Which kinds are looked for.
        key_file: 32 bytes in hex, with which originals are encrypted; "" leaves them to the
            permissions of their folder.
    """

    policy: str = "exclude"
    sources: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = NAMES
    key_file: str = ""

    def __post_init__(self) -> None:
        for place, policy in {"policy": self.policy, **self.sources}.items():
            if policy not in POLICIES:
                raise SettingsError(
                    f"{place} of [personal_data] in settings.toml must be one of "
                    f"{', '.join(POLICIES)}, got {policy!r}; repair it"
                )
        if unknown := sorted(map(str, set(self.kinds) - set(NAMES))):
            raise SettingsError(
                f"kinds of [personal_data] in settings.toml has no use for {', '.join(unknown)}; "
                f"there are {', '.join(NAMES)}"
            )

    @classmethod
    def of_settings(cls, table: Mapping[str, Any]) -> "Policy":
        """The policy that a table of settings states.

        Raises:
            SettingsError: It names a policy or a kind that there is not.
        """
        return cls(**{**table, "kinds": tuple(table.get("kinds", NAMES))})

    def of(self, source: str) -> str:
        """What becomes of personal data from one source."""
        return self.sources.get(source, self.policy)


class Pseudonyms:
    """What stands in place of a value: stable in this home, meaningless outside it.

    Without the key, which never leaves the restricted folder, nobody can try out numbers until a
    pseudonym comes out.
    """

    def __init__(self, layout: Layout) -> None:
        path = open_restricted(layout) / KEY_FILE
        if not path.exists():
            draft = path.with_name(f".{KEY_FILE}-{secrets.token_hex(4)}")
            write_private(draft, secrets.token_hex(32).encode())
            with suppress(FileExistsError):
                os.link(draft, path)  # of two who come first at once, both take the one key
            draft.unlink()
        self._key = path.read_bytes()

    def __call__(self, kind: str, value: str) -> str:
        """The placeholder of a value, e.g. <EMAIL_1a2b3c4d>."""
        return f"<{kind.upper()}_{self.keyed(f'{kind}:{value}')[:8]}>"

    @property
    def key(self) -> bytes:
        """64 bytes that are as secret as the key: the most that BLAKE2b takes for one."""
        return hashlib.blake2b(self._key).digest()

    def keyed(self, text: str) -> str:
        """A hash of 256 bits in hex that only this home can make."""
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
