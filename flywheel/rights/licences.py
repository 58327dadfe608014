"""What licences allow: a table of the common ones, and a team's own.

A cautious reading by engineers and no legal advice. Terms that allow no commercial use, or no
changed copies, allow to train models that stay in house; who reads them otherwise says so under
`[licences] own`, which goes before this table.

Source: SPDX License List 3.27 for the names; section 1 and 2 of each Creative Commons 4.0 deed.
"""

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

KNOWN: dict[str, Rights] = {
    **dict.fromkeys(("CC0-1.0", "PDDL-1.0", "UNLICENSE", "0BSD", "MIT-0"), ALL),
    **dict.fromkeys(("MIT", "APACHE-2.0", "BSD-2-CLAUSE", "BSD-3-CLAUSE", "ISC"), _NAMED),
    **{f"CC-BY-{version}": _NAMED for version in ("1.0", "2.0", "2.5", "3.0", "4.0")},
    **{f"CC-BY-SA-{version}": _ALIKE for version in ("1.0", "2.0", "2.5", "3.0", "4.0")},
    **{f"CC-BY-NC-{version}": _NOT_COMMERCIAL for version in ("2.0", "3.0", "4.0")},
    **{
        f"CC-BY-NC-SA-{version}": _NOT_COMMERCIAL & Rights(_IN_HOUSE, frozenset({"share_alike"}))
        for version in ("2.0", "3.0", "4.0")
    },
    **{f"CC-BY-NC-ND-{version}": _NOT_COMMERCIAL for version in ("2.0", "3.0", "4.0")},
    **{f"CC-BY-ND-{version}": _NOT_COMMERCIAL for version in ("2.0", "3.0", "4.0")},
    "ODC-BY-1.0": _NAMED,
    "ODBL-1.0": _ALIKE,
    "CDLA-PERMISSIVE-2.0": _NAMED,
    "OWN": ALL,  # made by the team, or for it
    "PROPRIETARY": _HELD,  # held by the team, and passed on to nobody
}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What rows are wanted for, and what becomes of those that do not allow it.

    Attributes:
        use: One of `USES`.
        refused: "fail" where nothing may be frozen then, "exclude" where it goes on without them.
        own: Licences beside those of `KNOWN`: name to `{uses = [...], duties = [...]}`.
    """

    use: str
    refused: str = "fail"
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _among("use", [self.use], USES)
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

    "A AND B" and "A, B" are both; of "A OR B" the one that allows more uses may be chosen. What is
    in no table is unknown, and may be evaluated on.
    """
    if not name:
        return UNKNOWN
    table = KNOWN | {
        _spelt(one): Rights(frozenset(said.get("uses", ())), frozenset(said.get("duties", ())))
        for one, said in (own or {}).items()
    }
    if found := table.get(_spelt(name)):
        return found
    for join in (" AND ", ", "):
        if join in name:
            return together(*(rights_of_licence(one.strip(), own) for one in name.split(join)))
    if " OR " in name:
        offered = [rights_of_licence(one.strip(), own) for one in name.split(" OR ")]
        return max(offered, key=lambda one: (len(one.uses), -len(one.duties)))
    return UNKNOWN


def _spelt(name: str) -> str:
    return "-".join(name.upper().split())


def _among(what: str, found: Any, known: tuple[str, ...]) -> None:
    if not isinstance(found, list) or (wrong := [one for one in found if one not in known]):
        told = found if not isinstance(found, list) else ", ".join(map(repr, wrong))
        raise SettingsError(f"[licences] {what} must be of {', '.join(known)}; got {told}")
