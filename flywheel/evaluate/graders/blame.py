"""Whose fault it is where a function of the user's own fails: nothing stands in for it."""

import contextlib
from collections.abc import Iterator

from flywheel.errors import EvaluationError, SettingsError


@contextlib.contextmanager
def blamed(whose: str, remedy: str) -> Iterator[None]:
    """Tell of whatever is raised within as the failure of `whose` code.

    Raises:
        EvaluationError: Something was raised that is no SettingsError.
    """
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:  # whatever it raises: it is not our code
        raise EvaluationError(
            f"{whose} failed: {type(error).__name__}: {error}; {remedy}"
        ) from error
