"""A C library that was compiled when the package was installed, or why there is none."""

import ctypes
from pathlib import Path


def load(beside: str, name: str, version: int, instead: str) -> tuple[ctypes.CDLL | None, str]:
    """Load `_<name>*.so`, whose `<name>_version()` must be the caller's.

    Args:
        beside: File of the module that calls it.
        name: Of the library.
        version: What the caller was written for.
        instead: What does the work where there is no library.

    Returns:
        The library or None, and "C kernel" or what works instead and why.
    """
    built = sorted(Path(beside).parent.glob(f"_{name}*.so"))
    if not built:
        why = "the C kernel was not built; install a C compiler and flywheel again"
        return None, f"{instead}: {why}"
    for path in built:
        try:
            found = ctypes.CDLL(str(path))
            tell = getattr(found, f"{name}_version")
            tell.restype = ctypes.c_int64
            built_version = tell()
        except (OSError, AttributeError) as error:
            reason = str(error)
            continue
        if built_version == version:
            return found, "C kernel"
        reason = f"it has version {built_version}, not {version}"
    return None, f"{instead}: {built[-1].name} does not fit ({reason}); install flywheel again"
