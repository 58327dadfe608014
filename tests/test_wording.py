"""What the page of an evaluation says of every entry that the ledger can hold on a challenger."""

from typing import Any

import pytest

from flywheel.evaluate.report.wording import OUTCOMES, verdict_told
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
