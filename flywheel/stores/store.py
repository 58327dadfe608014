"""One folder of an object store: list, fetch, put, create once, remove.

fsspec speaks to each kind of store (S3 through s3fs, the Hugging Face hub through
huggingface_hub, gs and az through packages of their own); what it raises becomes one of two errors
here: `StoreUnreachable` where the same call may succeed later, `StoreError` where somebody has to
act. No listing is cached: what is listed is what is there. A client of S3, which takes most of a
second to make, serves a process until access is refused.
"""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flywheel.errors import SettingsError, StoreError, StoreUnreachable
from flywheel.stores.settings import StorageSettings, check_address

EXTRA = {"s3": "'.[s3]'", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
TRIES = 2  # each with two attempts of the client below: a minute until a dead server is told
MARKS = ("ETag", "etag", "generation", "blob_id", "mtime", "created")  # whichever a store tells
NO_KEYS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # faults of this machine's disk
NO_PROFILE = {"ProfileNotFound", "ConfigNotFound", "ConfigParseError"}


@dataclass(frozen=True, slots=True)
class Found:
    """One object.

    Attributes:
        key: Its name below the address of the store.
        mark: What its store says tells this content from another: ETag, blob id, time.
        changed_at: When it was put, in seconds; None where the store does not say.
    """

    key: str
    size: int
    mark: str
    changed_at: float | None


class Store:
    """The folder at one address."""

    def __init__(self, address: str, settings: StorageSettings) -> None:
        check_address(address)
        self.address = address.rstrip("/")
        self._fs, self._root = _open(self.address, settings)

    def objects(self) -> tuple[list[Found], bool]:
        """Every object below the address by key, and whether the address is that of one object.

        In that case the store is the folder of that object from then on.

        Raises:
            StoreError: The bucket is not there, or access is refused.
        """
        with self._told("be listed"):
            found = self._fs.find(self._root, detail=True)
        if facts := found.get(self._root):
            self._root, _, key = self._root.rpartition("/")
            self.address = self.address.rpartition("/")[0]
            return [_found(key, facts)], True
        cut = len(self._root) + 1
        return [_found(name[cut:], facts) for name, facts in sorted(found.items())], False

    def names(self, folder: str) -> list[str]:
        """Last names of the objects below one folder, sorted; none where it is not there."""
        with self._told("be listed"):
            if self._is_local and not Path(self._root).is_dir():
                raise FileNotFoundError(f"{self._root} is no folder, or is not mounted")
            found = self._fs.find(self._path(folder))
        return sorted(name.rpartition("/")[2] for name in found)

    def mark_of(self, key: str) -> str | None:
        """The mark of an object as it is now; None where it is gone."""
        with self._told(f"describe {key}"):
            try:
                return _found(key, self._fs.info(self._path(key))).mark
            except FileNotFoundError:
                return None

    def read(self, key: str) -> bytes | None:
        """The bytes of an object; None where there is none."""
        with self._told(f"give {key}"):
            try:
                return bytes(self._fs.cat_file(self._path(key)))
            except FileNotFoundError:
                return None

    def fetch(self, key: str, path: Path) -> bool:
        """Write an object to a path; False where it is gone."""
        with self._told(f"give {key}"):
            try:
                self._fs.get_file(self._path(key), str(path))
            except FileNotFoundError:
                return False
        if not path.exists():  # some stores create no file for an object without bytes
            path.touch()
        return True

    def put(self, path: Path, key: str) -> None:
        """Write a file to an object; a reader sees the whole of it or none."""
        with self._told(f"take {key}"):
            self._fs.put_file(str(path), self._path(key))

    def create(self, key: str, content: bytes) -> bool:
        """Write an object unless there is one, in one step for everybody; False where there is."""
        with self._told(f"take {key}"):
            try:
                if self._is_local:
                    _create_file(Path(self._path(key)), content)
                else:
                    self._fs.pipe_file(self._path(key), content, mode="create")
            except FileExistsError:
                return False
        return True

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        with self._told(f"remove {key}"):
            try:
                self._fs.rm_file(self._path(key))
            except FileNotFoundError:
                return

    @property
    def _where_to_look(self) -> str:
        if self.address.startswith("hf:"):
            return "mend the name or the revision; a repository that is not public needs HF_TOKEN"
        return "create the bucket or folder, or mend the address in [storage] of settings.toml"

    @property
    def _is_local(self) -> bool:
        return self.address.startswith("file:")

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say in the house's words what a store's client raises."""
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.address} cannot {what}: {_one_line(error)}; {self._where_to_look}"
            ) from error
        except PermissionError as error:
            type(self._fs).clear_instance_cache()  # so that credentials are looked up again
            raise StoreError(
                f"{self.address} cannot {what}: access is refused ({_one_line(error)}); mend the "
                f"credentials in the environment or the profile, or have the bucket's owner permit "
                f"to list, read, write and delete below that address"
            ) from error
        except Exception as error:  # every store has a client of its own, with errors of its own
            name, number = type(error).__name__, getattr(error, "errno", None)
            if number in OURS:
                raise
            if number == errno.EINVAL:
                raise StoreError(
                    f"{self.address} cannot {what}: {_one_line(error)}; mend the address, or "
                    f"region and endpoint_url in [storage] of settings.toml"
                ) from error
            if name in NO_KEYS:
                raise StoreError(
                    f"{self.address} cannot {what}: there are no credentials; set "
                    f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or [storage] profile"
                ) from error
            if name in NO_PROFILE:
                raise StoreError(
                    f"{self.address} cannot {what}: {_one_line(error)}; mend [storage] profile, "
                    f"or the shared AWS configuration"
                ) from error
            raise StoreUnreachable(
                f"{self.address} cannot {what} now: {name}: {_one_line(error)}; what waits is "
                f"caught up when it answers again; check the network and [storage] endpoint_url"
            ) from error


def _open(address: str, settings: StorageSettings) -> tuple[Any, str]:
    """The client of a store and the path of an address in it."""
    from fsspec.core import url_to_fs

    protocol = address.split("://", 1)[0]
    options: dict[str, Any] = {"skip_instance_cache": True}  # one that is new has cached nothing
    if protocol in ("s3", "s3a"):
        options = {
            "use_listings_cache": False,
            "endpoint_url": settings.endpoint_url or None,
            "profile": settings.profile or None,
            "client_kwargs": {"region_name": settings.region} if settings.region else {},
            "config_kwargs": {
                "connect_timeout": settings.timeout_seconds,
                "read_timeout": settings.timeout_seconds,
                "retries": {"total_max_attempts": 2, "mode": "standard"},
            },
        }
    elif protocol == "file":
        options |= {"auto_mkdir": True}
    try:
        fs, root = url_to_fs(address, **options)
    except (ImportError, ValueError) as error:
        extra = EXTRA.get(protocol)
        remedy = f"pip install {extra}" if extra else "known are s3, gs, az, hf and file"
        raise SettingsError(f"{address} cannot be opened: {_one_line(error)}; {remedy}") from error
    if hasattr(fs, "retries"):
        fs.retries = TRIES
    return fs, str(root).rstrip("/")


def _found(key: str, facts: dict[str, Any]) -> Found:
    mark = next((str(facts[name]).strip('"') for name in MARKS if facts.get(name)), "")
    changed = next((facts[name] for name in ("LastModified", "mtime") if facts.get(name)), None)
    seconds = changed.timestamp() if isinstance(changed, datetime) else changed
    return Found(key, int(facts.get("size") or 0), mark, seconds)


def _create_file(path: Path, content: bytes) -> None:
    """A whole new file or none, as an object store would; refuses where there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex[:8]}.draft")
    try:
        draft.write_bytes(content)
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
