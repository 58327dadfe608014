"""What a challenger's data allows, asked again whenever somebody decides.

A yes may come weeks after the gate, and consents are withdrawn in between.

Asked before the ledger is held: who answers reads the ledger, too.
"""

from collections.abc import Callable

from flywheel.errors import FlywheelError, PromotionError

Forbidden = Callable[[str], str]  # generation to why its policy may not be used; empty: it may


def refuse_forbidden(generation: str, forbidden: Forbidden | None) -> None:
    """Refuse to send on a challenger whose data may not be used.

    Raises:
        PromotionError: It may not be, or whether it may cannot be told.
    """
    if why := told_of(generation, forbidden):
        raise PromotionError(f"{generation} can be declined or stopped, and not sent on: {why}")


def told_of(generation: str, forbidden: Forbidden | None) -> str:
    """Why the data of a generation may not be used; empty where it may, or nobody is asked."""
    try:
        return forbidden(generation) if forbidden else ""
    except Exception as error:  # whatever it is, a rollback must not fail by it
        why = f"{error}" if isinstance(error, FlywheelError) else repr(error)
        return f"whether the data of policy/{generation} may be used cannot be told: {why}"
