"""Personal data in what is served, by the policy of the source `served`, before a line is written.

* `redact`: placeholders stand in the log, and go to landing with feedback.
* `exclude` (the default of `[personal_data]`): placeholders stand in the log, and feedback on such
  an answer counts and is not handed to landing, because it would train nothing there.
* `refuse`: nothing of the text is kept.
* `allow`: the text is kept as it is.
"""

import json
from dataclasses import dataclass
from typing import Any

from flywheel.layout import Layout
from flywheel.privacy import Policy, Pseudonyms, redact

SOURCE = "served"  # as landing names it: the folder of the inbox that feedback is laid into


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """A value as it may be kept.

    Attributes:
        value: None where nothing of it may.
        kinds: Of personal data that were found and taken out.
        trains: Whether it may be handed to landing.
    """

    value: Any
    kinds: tuple[str, ...] = ()
    trains: bool = True


class Screen:
    """What looks through texts before they are written down."""

    def __init__(self, layout: Layout, policy: Policy) -> None:
        self._policy = policy
        self._mode = policy.of(SOURCE)
        self._placeholder = Pseudonyms(layout)

    def __call__(self, value: Any) -> Screened:
        """Look through every text of a JSON value."""
        if self._mode == "allow":
            return Screened(value=value)
        text = json.dumps(value)
        kept, counts = redact(text, self._placeholder, escaped=True, kinds=self._policy.kinds)
        if not counts:
            return Screened(value=value)
        return Screened(
            value=None if self._mode == "refuse" else json.loads(kept),
            kinds=tuple(sorted(counts)),
            trains=self._mode == "redact",
        )
