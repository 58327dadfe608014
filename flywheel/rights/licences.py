"""What licences allow: a table of the common ones, and a team's own.

A cautious reading by engineers and no legal advice. Terms that allow no commercial use, or no
changed copies, allow to train models that stay in house; who reads them otherwise says so under
`[licences] own`, which goes before this table.

Source: SPDX License List 3.27 for the names, and of models those of the Hugging Face hub; section
1 and 2 of each Creative Commons 4.0 deed. Restrictions on purpose (OpenRAIL, Gemma, Llama) are not
weighed: they are passed on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flywheel.errors import SettingsError
from flywheel.rights.algebra import ALL, DUTIES, UNKNOWN, USES, Rights, together

_IN_HOUSE = frozenset({"evaluate", "train_internal"})
_NAMED = Rights(frozenset(USES), frozenset({"attribution"}))
_ALIKE = Rights(frozenset(USES), frozenset({"attribution", "share_alike"}))
_NOT_COMMERCIAL = Rights(_IN_HOUSE, frozenset({"attribution"}))
_HELD = Rights(_IN_HOUSE | {"serve_commercial"})

_PASSED_ON = Rights(frozenset(USES), frozenset({"attribution", "share_alike"}))  # its terms, too
_NO_RIVAL = Rights(frozenset(USES), _PASSED_ON.duties | {"no_competing_model"})
DEEPEST = 20  # brackets in what somebody wrote as a licence
_CREATIVE = ("1.0", "2.0", "2.5", "3.0", "4.0")

KNOWN: dict[str, Rights] = {
    **dict.fromkeys(("CC0-1.0", "PDDL-1.0", "UNLICENSE", "0BSD", "MIT-0"), ALL),
    **dict.fromkeys(("MIT", "APACHE-2.0", "BSD-2-CLAUSE", "BSD-3-CLAUSE", "ISC"), _NAMED),
    **{
        f"{name}{which}": _ALIKE
        for name in ("GPL-2.0", "GPL-3.0", "AGPL-3.0", "LGPL-2.1", "LGPL-3.0")
        for which in ("", "-ONLY", "-OR-LATER")
    },
    **dict.fromkeys(("MPL-2.0", "EPL-2.0"), _ALIKE),
    **{f"CC-BY-{version}": _NAMED for version in _CREATIVE},
    **{f"CC-BY-SA-{version}": _ALIKE for version in _CREATIVE},
    **{f"CC-BY-NC-{version}": _NOT_COMMERCIAL for version in _CREATIVE},
    **{
        f"CC-BY-NC-SA-{version}": _NOT_COMMERCIAL & Rights(_IN_HOUSE, frozenset({"share_alike"}))
        for version in _CREATIVE
    },
    **{f"CC-BY-NC-ND-{version}": _NOT_COMMERCIAL for version in _CREATIVE},
    **{f"CC-BY-ND-{version}": _NOT_COMMERCIAL for version in _CREATIVE},
    "ODC-BY-1.0": _NAMED,
    "ODBL-1.0": _ALIKE,
    "CDLA-PERMISSIVE-2.0": _NAMED,
    **dict.fromkeys(
        ("OPENRAIL", "OPENRAIL++", "BIGSCIENCE-OPENRAIL-M", "BIGCODE-OPENRAIL-M"), _PASSED_ON
    ),
    **dict.fromkeys(("CREATIVEML-OPENRAIL-M", "GEMMA"), _PASSED_ON),
    **dict.fromkeys(("LLAMA2", "LLAMA3"), _NO_RIVAL),  # of the output, since 3.1 with its name
    **dict.fromkeys(("LLAMA3.1", "LLAMA3.2", "LLAMA3.3", "LLAMA4"), _PASSED_ON),
    "OWN": ALL,  # made by the team, or for it
    "PROPRIETARY": _HELD,  # held by the team, and passed on to nobody
}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What rows are wanted for, and what becomes of those that do not allow it.

    Attributes:
        use: One of `USES`; "" where licences are not asked, and a consent only whether it was
            refused, has ended or was taken back.
        refused: "fail" where nothing may be frozen then, "exclude" where it goes on without them.
        own: Licences beside those of `KNOWN`: name to `{uses = [...], duties = [...]}`.
    """

    use: str = ""
    refused: str = "fail"
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _among("use", [self.use] if self.use else [], USES)
        _among("refused", [self.refused], ("fail", "exclude"))
        for name, said in self.own.items():
            if not isinstance(said, Mapping) or not said.keys() <= {"uses", "duties"}:
                raise SettingsError(
                    f"[licences] own.{name!r} must be {{uses = [...], duties = [...]}}, got "
                    f"{said!r}; repair it"
                )
            _among(f"uses of {name}", said.get("uses", []), USES)
            _among(f"duties of {name}", said.get("duties", []), DUTIES)


def rights_of_licence(name: str | None, own: Mapping[str, Any] | None = None) -> Rights:
    """What a licence allows, by its SPDX name or as people write it ("CC BY 4.0").

    Of "A AND B", "A, B" and "A; B" all hold; of "A OR B" the one that allows more uses may be
    chosen; brackets group. What is in no table is unknown, and may be evaluated on.
    """
    table = KNOWN | {
        _spelt(one): Rights(frozenset(said.get("uses", ())), frozenset(said.get("duties", ())))
        for one, said in (own or {}).items()
    }
    return _rights(name or "", table)


def _rights(name: str, table: Mapping[str, Rights]) -> Rights:
    if found := table.get(_spelt(name)):
        return found
    if len(every := _split(name, r"[,;]")) > 1:  # what binds least is split first
        return together(*(_rights(one, table) for one in every))
    if len(offered := _split(name, r"(?<!\S)OR(?!\S)")) > 1:
        found_in = (_rights(one, table) for one in offered)
        return max(found_in, key=lambda one: (len(one.uses), -len(one.duties)))
    if len(every := _split(name, r"(?<!\S)AND(?!\S)")) > 1:
        return together(*(_rights(one, table) for one in every))
    inner = name.strip()
    if inner.startswith("(") and inner.endswith(")") and inner.count("(") <= DEEPEST:
        return _rights(inner[1:-1], table)
    return UNKNOWN


def _split(name: str, join: str) -> list[str]:
    """The parts between joins that are in no bracket."""
    parts, start = [], 0
    for found in re.finditer(join, name, re.IGNORECASE):
        before = name[: found.start()]
        if before.count("(") == before.count(")"):
            parts.append(name[start : found.start()])
            start = found.end()
    return [*parts, name[start:]]


def _spelt(name: str) -> str:
    return "-".join(name.upper().split())


def _among(what: str, found: Any, known: tuple[str, ...]) -> None:
    if not isinstance(found, list) or (wrong := [one for one in found if one not in known]):
        told = found if not isinstance(found, list) else ", ".join(map(repr, wrong))
        raise SettingsError(f"[licences] {what} must be of {', '.join(known)}; got {told}")
