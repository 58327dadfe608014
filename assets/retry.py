"""A second try for a process of its own: training, evaluation, collection."""

import time
from collections.abc import Callable
from typing import Any

from flywheel.errors import LaunchError

RETRY_SECONDS = 10.0  # until what stood in the way of a failed run may have passed


def tried_twice(
    start: Callable[[], dict[str, Any]], log: Callable[[str], object]
) -> dict[str, Any]:
    """Start a process, and where it fails once more: it goes on from what it kept, if anything.

    Not Dagster's RetryPolicy: that takes a request to stop for a failure too, and trains on.

    Raises:
        LaunchError: The second run failed as well.
    """
    try:
        return start()
    except LaunchError as error:
        log(f"trying once more in {RETRY_SECONDS:.0f} seconds: {error}")
        time.sleep(RETRY_SECONDS)
        return start()
