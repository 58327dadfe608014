"""What redaction took out, kept where only the owner of the home reads it.

`restricted/originals/<batch_id>.parquet` below the home holds one row per redacted row or
quarantined line, with the fields as they were delivered. The folder is 0700 and its files 0600;
with a key file they are encrypted as well (AES-256-GCM, bound to the batch), and are called
`<batch_id>.sealed`. Removing a file takes nothing from the lake.
"""

import os
import secrets
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import LakeError, SettingsError
from flywheel.layout import Layout

ORIGINALS = pa.schema(
    [
        pa.field("record_uid", pa.string()),  # null for a quarantined line
        pa.field("kind", pa.string()),
        pa.field("line_no", pa.int64()),
        pa.field("fields", pa.string()),  # JSON: column -> what it held
        pa.field("raw", pa.binary()),  # the bytes of a quarantined line
    ]
)
NONCE_BYTES = 12


def keep_originals(layout: Layout, batch_id: str, rows: pa.Table, key_file: str = "") -> Path:
    """Write the originals of a batch, whole or not at all.

    Raises:
        SettingsError: The key file is missing or holds no key.
        LakeError: The file could not be written.
    """
    packed = pa.BufferOutputStream()
    pq.write_table(rows, packed, compression="zstd")
    content = packed.getvalue().to_pybytes()
    path = open_restricted(layout) / "originals" / f"{batch_id}.parquet"
    if key_file:
        nonce = secrets.token_bytes(NONCE_BYTES)
        content = nonce + cipher(key_file).encrypt(nonce, content, batch_id.encode())
        path = path.with_suffix(".sealed")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, content)
    except OSError as error:
        raise LakeError(
            f"cannot write {path}: {error.strerror or error}; free some space or mend the "
            f"folder's permissions and land again: nothing of the file has landed"
        ) from error
    return path


def read_originals(layout: Layout, batch_id: str, key_file: str = "") -> pa.Table:
    """The originals of a batch; an empty table where nothing was taken out of it.

    Raises:
        SettingsError: The key file is missing, holds no key, or another one.
    """
    path = layout.restricted / "originals" / f"{batch_id}.parquet"
    if path.exists():
        return pq.read_table(path)
    sealed = path.with_suffix(".sealed")
    if not sealed.exists():
        return ORIGINALS.empty_table()
    from cryptography.exceptions import InvalidTag

    content = sealed.read_bytes()
    try:
        opened = cipher(key_file).decrypt(
            content[:NONCE_BYTES], content[NONCE_BYTES:], batch_id.encode()
        )
    except InvalidTag as error:
        raise SettingsError(
            f"{sealed} does not open with the key in {key_file}: it was written with another, or "
            f"changed since"
        ) from error
    return pq.read_table(pa.BufferReader(opened))


def forget_originals(layout: Layout, batch_id: str) -> None:
    """Remove the originals of a batch, where there are any."""
    for suffix in (".parquet", ".sealed"):
        (layout.restricted / "originals" / f"{batch_id}{suffix}").unlink(missing_ok=True)


def open_restricted(layout: Layout) -> Path:
    """The restricted folder, made if need be; its permissions are set again each time."""
    folder = layout.restricted
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody else can read, in one step for whoever does."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}.draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def cipher(key_file: str) -> Any:
    """What encrypts with the key in a file.

    Raises:
        SettingsError: The file is missing or holds no key.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        key = bytes.fromhex(Path(key_file).read_text().strip())
    except (OSError, ValueError) as error:
        key, reason = b"", f"{error}"
    else:
        reason = f"it holds {len(key)} bytes"
    if len(key) != 32:
        raise SettingsError(
            f"key_file of [personal_data] in settings.toml must name a file of 32 bytes in hex, "
            f"got {key_file!r}: {reason}; make one with `openssl rand -hex 32`, and keep a copy"
        )
    return AESGCM(key)
