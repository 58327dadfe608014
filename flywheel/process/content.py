"""What a file or a folder holds, as one hash: how a changed input is known."""

import hashlib
import importlib.util
import json
from functools import lru_cache
from pathlib import Path

MANIFEST = "manifest.json"


def content_of(path: Path) -> str:
    """Hash a file; a dataset or checkpoint of ours by its manifest; another folder by its files.

    A model from outside can be changed in place, so each file at the top of its folder counts.
    A process reads a file again only where its size, its times or its inode have changed.
    """
    if path.is_file():
        return _hash_of(path)
    manifest = path / MANIFEST
    if manifest.is_file() and b'"content_hash"' in manifest.read_bytes():
        return _hash_of(manifest)  # it holds the hashes of the others
    files = sorted(one for one in path.iterdir() if one.is_file())
    lines = "".join(f"{one.name}\0{_hash_of(one)}\n" for one in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def model_hash(model: str) -> str:
    """Which model this is: the content hash that its manifest gives, or else that of its files.

    Args:
        model: A checkpoint of ours, a folder from outside, or a hub name, which has no content
            here and stands for itself.
    """
    folder = Path(model)
    if not folder.is_dir():
        return f"hub:{model}"
    manifest = folder / MANIFEST
    facts = json.loads(manifest.read_text()) if manifest.exists() else {}
    return facts.get("content_hash") or content_of(folder)


def code_of(function: str) -> Path | None:
    """The file of "module:function", which is not imported; None where there is none."""
    try:
        spec = importlib.util.find_spec(function.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None


def code_hash() -> str:
    """Which code of flywheel this is, committed or not."""
    root = Path(__file__).parents[1]
    files = sorted(root.rglob("*.py"))
    lines = "".join(f"{one.relative_to(root)}\0{_hash_of(one)}\n" for one in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _hash_of(path: Path) -> str:
    stat = path.stat()
    return _hash_at(path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=4096)
def _hash_at(path: Path, stamp: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
