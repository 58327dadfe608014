"""Personal data: what it looks like, where it stands, and what a source's policy makes of it."""

from flywheel.privacy.find import Found, find, kinds_found, redact
from flywheel.privacy.kinds import KINDS, Kind
from flywheel.privacy.originals import forget_originals, keep_originals, read_originals
from flywheel.privacy.policy import Policy, Pseudonyms
from flywheel.privacy.screen import screen_texts
from flywheel.privacy.tombstones import Tombstones, erased_name

__all__ = [
    "KINDS",
    "Found",
    "Kind",
    "Policy",
    "Pseudonyms",
    "Tombstones",
    "erased_name",
    "find",
    "forget_originals",
    "keep_originals",
    "kinds_found",
    "read_originals",
    "redact",
    "screen_texts",
]
