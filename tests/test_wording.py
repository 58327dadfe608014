"""What the page of an evaluation says of every entry that the ledger can hold on a challenger."""

from typing import Any

import pytest

from flywheel.evaluate.report.wording import NEEDS_YES, OUTCOMES, verdict_told
from flywheel.promotion.succession import SAID


def told(action: str, **changes: Any) -> str:
    said = {"decision": action, "reasons": ["a < b"], "awaiting": False, "stage": "", "by": "gate"}
    return verdict_told(said | changes, {})


@pytest.mark.parametrize("action", SAID)
def test_every_entry_on_a_challenger_has_words(action: str) -> None:
    page = told(action)
    assert (
        f"<b>{OUTCOMES[action][1]}</b>" in page and "a &lt; b" in page and action not in page[30:]
    )
    assert page.partition('"verdict ')[2].partition('"')[0] in ("PROMOTE", "HOLD", "REJECT")


def test_where_a_challenger_stands_is_said() -> None:
    staged = told("PROMOTE", stage="shadow")
    assert "It is on the stage 'shadow', without the title." in staged
    assert "on the stage" not in told("PROMOTE") and "So said" not in told("PROMOTE")
    assert "A person's yes is awaited." in told("PROMOTE", awaiting=True)
    approved = told("APPROVE", by="ada <a>", stage="canary")
    assert "a person said yes" in approved and "So said ada &lt;a&gt;." in approved
    assert "'canary'" in approved


def rolled(is_given: bool) -> str:
    back = {"champion": "g0001", "is_given": is_given, "reasons": ["c < d"], "by": "bob", "at": ""}
    return told("PROMOTE", rollback=back, needs_yes=not is_given)


def test_a_rollback_is_told_of_who_lost_the_title_and_of_who_has_it_again() -> None:
    lost, again = rolled(False), rolled(True)
    assert 'class="verdict REJECT"' in lost and "the title was taken from it" in lost
    assert "The champion was then g0001." in lost and "Before that: Promote" in lost
    assert "c &lt; d" in lost and "So said bob." in lost and NEEDS_YES in lost
    assert 'class="verdict PROMOTE"' in again and "Given the title back" in again
    assert NEEDS_YES not in again


def test_who_was_displaced_is_said_to_return_by_a_persons_yes_alone() -> None:
    assert NEEDS_YES in told("STOP", needs_yes=True)
    assert NEEDS_YES not in told("STOP") and NEEDS_YES not in told("PROMOTE")
    assert NEEDS_YES not in told("PROMOTE", needs_yes=True, awaiting=True), "it is asked for"
