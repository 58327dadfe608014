"""The form of one measured number."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A value beside the value of a named peer, measured in the same run."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    conditions: str
