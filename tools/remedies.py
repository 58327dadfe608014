"""What a failed set-up log means, and what to do about it.

Read by `tools/setup.py`, under the same rule: the standard library, any Python from 3.8 on.
"""

from __future__ import annotations

import re

# Pattern in the log, what it means, what to do. The first that fits is told: a compiler that
# is missing also leaves behind lines about files, so the order matters.
REMEDIES = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "Free some space (`pip cache purge`, or TMPDIR on a larger disk) and run it again",
    ),
    (
        r"(gcc|cc|clang|\+\+)'? failed|unable to execute '|No such file or directory: '(cc|gcc)"
        r"|\b(gcc|cc|c\+\+|g\+\+): (command )?not found|Python\.h: No such file",
        "a package has no wheel for this machine and there is no C compiler to build it",
        "Debian, Ubuntu: apt-get install build-essential python3-dev; "
        "macOS: xcode-select --install",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "constraints.txt and pyproject.toml do not fit together on this Python",
        "Use another one (make run PYTHON=python3.11), or mend the pins",
    ),
    (
        r"(NewConnection|NameResolution|ConnectTimeout|ReadTimeout|Proxy|SSL)Error|Read timed out"
        r"|Temporary failure in name|Network is unreachable|Connection refused",
        "the package index cannot be reached",
        "Connect and run it again: what is downloaded is kept. Behind a proxy set HTTPS_PROXY, "
        "with a mirror PIP_INDEX_URL",
    ),
    (
        r"Permission denied|Read-only file system",
        "a file may not be written",
        "Run it as the owner of this folder, never with sudo",
    ),
)

# Lines that pip writes whether or not it fails.
NOISE = ("Requirement already", "WARNING: Location", "Looking in", "[notice]", "Collecting")


def explain(log: str) -> str:
    """Return what a failed log means, what to do, and its last meaningful lines."""
    told = "Not a failure that set-up knows: read the log"
    for pattern, meaning, remedy in REMEDIES:
        if re.search(pattern, log):
            told = f"Most likely {meaning}.\n  {remedy}"
            break
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith(NOISE)]
    last = "\n    ".join(line[:200] for line in lines[-8:])
    return f"{told}.\n  The log ends:\n    {last}"
