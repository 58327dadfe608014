"""Uses that are allowed, duties that come with them, and how those of several parents combine.

A thing made of several has the intersection of their uses and the union of their duties: adding a
parent never allows more. What nobody said anything of may be evaluated on, and nothing else.
"""

from dataclasses import dataclass

USES = (
    "evaluate",  # test models on it, in house
    "train_internal",  # train models that nobody else is given or served
    "train_release",  # publish weights that were trained on it
    "serve_commercial",  # let customers use a model that was trained on it
    "publish_data",  # pass the rows on
)
DUTIES = (
    "attribution",  # name whose work it is
    "share_alike",  # pass it on under the same terms
    "no_competing_model",  # train nothing that competes with whose output it is
)


@dataclass(frozen=True, slots=True)
class Rights:
    """What is allowed, and what is owed for it."""

    uses: frozenset[str]
    duties: frozenset[str] = frozenset()

    def __and__(self, other: "Rights") -> "Rights":
        return Rights(self.uses & other.uses, self.duties | other.duties)


ALL = Rights(frozenset(USES))  # of what nothing restricts; changes nothing it is combined with
UNKNOWN = Rights(frozenset({"evaluate"}))
NONE = Rights(frozenset())


def together(*parents: Rights) -> Rights:
    """The rights of what is made of all of these."""
    found = ALL
    for one in parents:
        found &= one
    return found
