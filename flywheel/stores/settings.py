"""`[storage]` in settings.toml: the object stores of a home.

Credentials are no setting: they come from where every AWS tool takes them (the environment, the
shared profile, the machine's role), and for the Hugging Face hub from `HF_TOKEN` or its login.
"""

from dataclasses import dataclass, field
from urllib.parse import quote

from flywheel.errors import SettingsError

# What of a home may be kept in the store: the name of a part, and where it lies below the root.
PARTS = {
    "lake": "lake",
    "datasets": "artifacts/datasets",
    "registry": "registry",
    "evaluations": "artifacts/evaluations",
    "checkpoints": "artifacts/checkpoints",
    "salt": "annotators.salt",
}
NAME_LIMIT = 255  # bytes of one name in a folder, on every usual file system


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Where feedback is fetched from, and where the lake is kept for good.

    Attributes:
        inbox: Addresses whose objects land like the files of the inbox, e.g. `s3://bucket/inbox`.
        lake: Address of the durable copy, e.g. `s3://bucket/lake`; none keeps it on this disk.
        parts: What is copied there. `checkpoints` are large, and without `salt`, which ties
            pseudonyms to persons, a restored home needs the file `annotators.salt` by hand.
        endpoint_url: Of a server that speaks S3; none is AWS.
        region: Of the bucket, where the server asks for it.
        profile: In the shared AWS configuration; none takes the environment's.
        poll_seconds: The sensor lists an inbox in a store this often, for listing costs money.
        timeout_seconds: Without a sign from the server for this long, a request is given up.
    """

    inbox: list = field(default_factory=list)  # type: ignore[type-arg]  # checked below
    lake: str = ""
    parts: list = field(  # type: ignore[type-arg]
        default_factory=lambda: ["lake", "datasets", "registry", "evaluations"]
    )
    endpoint_url: str = ""
    region: str = ""
    profile: str = ""
    poll_seconds: float = 600.0
    timeout_seconds: float = 20.0

    def __post_init__(self) -> None:
        for address in (*self.inbox, *([self.lake] if self.lake else [])):
            check_address(address)
        for address in self.inbox:
            if address.startswith("file:"):
                raise SettingsError(
                    f"[storage] inbox {address} is a folder of this machine, in which files may "
                    f"still be being written; link it below the inbox instead: a link is followed"
                )
            if self.lake and (_below(address, self.lake) or _below(self.lake, address)):
                raise SettingsError(
                    f"[storage] inbox {address} and lake {self.lake} lie in each other, so that "
                    f"the lake would land in itself; give each a prefix of its own"
                )
        if unknown := [one for one in self.parts if one not in PARTS]:
            raise SettingsError(
                f"[storage] parts has no use for {unknown[0]!r}; the parts of a home are "
                f"{', '.join(PARTS)}"
            )
        if not (self.poll_seconds > 0 and self.timeout_seconds > 0):
            raise SettingsError("[storage] poll_seconds and timeout_seconds must be above 0")


def is_address(text: str) -> bool:
    """Whether a path that somebody named lies in a store and not on this machine."""
    return "://" in text


def check_address(address: object) -> None:
    """Refuse what is no address of a folder in a store.

    Raises:
        SettingsError: It is not, holds credentials, or is too long to name a folder after.
    """
    if not isinstance(address, str) or not is_address(address) or "::" in address:
        raise SettingsError(
            f"{address!r} is no address of an object store, such as s3://bucket/folder"
        )
    rest = address.split("://", 1)[1]
    if "@" in rest.split("/")[0]:
        raise SettingsError(
            "an address of an object store holds something in front of an @, which would be "
            "written into every record; take credentials out of it, and give them by the "
            "environment or an AWS profile"
        )
    if any(part in ("", ".", "..") for part in rest.strip("/").split("/")):
        raise SettingsError(f"{address!r} holds an empty name, or a dot for one; write it plainly")
    if len(quote(address, safe="")) > NAME_LIMIT:
        raise SettingsError(
            f"the address {address} is too long to name a folder after ({NAME_LIMIT} characters, "
            f"one of another alphabet counts for several); use a shorter prefix"
        )


def _below(one: str, other: str) -> bool:
    return f"{one.rstrip('/')}/".startswith(f"{other.rstrip('/')}/")
