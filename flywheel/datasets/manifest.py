"""The manifest of a frozen dataset: what it holds, where it came from, and how to prove it.

A frozen dataset is a folder of one Parquet file per split and `manifest.json`. The manifest is
the only way in: every read checks the file against the hash that was written with it, so a
checkpoint's lineage cannot rest on a file that somebody changed.
"""

import hashlib
import os
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import ManifestError

MANIFEST = "manifest.json"


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one frozen dataset holds.

    Attributes:
        content_hash: SHA-256 over the rows in the order of their key; equal rows hash alike
            whatever the version of Parquet that wrote them.
        files: File name to the SHA-256 of its bytes.
        record_count: Distinct feedback records behind the rows; several votes make one row.
        sources: Source to rows that rest on it; several behind one row are joined with ", ".
        licences: Licence to rows under it, joined likewise; "unknown" where a source named none.
        trained_through_batch: Number of the newest batch in the tables that it was frozen from.
        use: What licences and consents of every row allowed on that day; "" where nobody asked.
        rows_refused: Rows left out because theirs did not, or because a record that they rest on
            was erased before; `refused.tsv` beside names them.
        duties: What they ask for in return.
        rows_erased: Rows taken out since, because a record that they rest on was erased;
            `content_hash`, and all that is said of the rows together, is of what was frozen.
    """

    name: str
    generation: str
    table: str
    content_hash: str
    rows_by_split: dict[str, int]
    files: dict[str, str]
    record_count: int
    annotator_count: int
    cost_usd: float
    sources: dict[str, int]
    licences: dict[str, int]
    trained_through_batch: int
    use: str = ""
    rows_refused: int = 0
    duties: list[str] = []
    rows_erased: int = 0

    @property
    def rows(self) -> int:
        """Rows of all splits together."""
        return sum(self.rows_by_split.values())

    def save(self, directory: Path) -> None:
        """Write `manifest.json` whole or not at all."""
        draft = directory / f".{MANIFEST}.draft"
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, directory / MANIFEST)

    @classmethod
    def load(cls, directory: Path) -> "DatasetManifest":
        """Read the manifest of the dataset in `directory`.

        Raises:
            ManifestError: There is none, or it cannot be read or is not a dataset manifest.
        """
        path = directory / MANIFEST
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            raise ManifestError(
                f"a frozen dataset needs a manifest, found none at {path}; materialize the dataset"
            ) from None
        except OSError as error:
            raise ManifestError(
                f"cannot read {path}: {error.strerror or error}; mend its permissions or its disk"
            ) from error
        except msgspec.DecodeError as error:
            raise ManifestError(
                f"{path} is no dataset manifest: {error}; remove the folder and freeze again"
            ) from error

    def verify(self, directory: Path) -> None:
        """Check every file against its hash.

        Raises:
            ManifestError: A file is missing, changed or not named by the manifest.
        """
        for name in self.files:
            self._verify_file(directory / name)
        strangers = sorted({path.name for path in directory.glob("*.parquet")} - set(self.files))
        if strangers:
            raise ManifestError(
                f"the manifest in {directory} names every file of the dataset, but {strangers} "
                "lie beside them; remove them"
            )

    def _verify_file(self, path: Path) -> None:
        if not path.exists():
            raise ManifestError(
                f"the manifest promises {path}, which is gone; restore it from a backup, or freeze "
                "a new generation"
            )
        found = file_hash(path)
        if found != self.files[path.name]:
            raise ManifestError(
                f"frozen files never change, but {path} hashes to {found[:12]} and its manifest "
                f"says {self.files[path.name][:12]}; restore it, or freeze a new generation"
            )


def read_split(directory: Path | str, split: str) -> pa.Table:
    """Read one split of a frozen dataset, after checking the file against its manifest.

    Raises:
        ManifestError: The dataset has no such split, or its file is not what was frozen.
    """
    directory = Path(directory)
    manifest = DatasetManifest.load(directory)
    if split not in manifest.rows_by_split:
        raise ManifestError(
            f"dataset {manifest.name} {manifest.generation} has the splits "
            f"{sorted(manifest.rows_by_split)}, not {split!r} (in {directory})"
        )
    path = directory / f"{split}.parquet"
    manifest._verify_file(path)
    return pq.read_table(path)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
