"""A process that fails once is started once more, and no third time."""

import pytest

from assets import retry
from flywheel.errors import LaunchError


@pytest.mark.parametrize(("failures", "starts"), [(0, 1), (1, 2), (2, 2)])
def test_a_process_is_tried_twice(
    monkeypatch: pytest.MonkeyPatch, failures: int, starts: int
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.0)
    tries: list[int] = []
    told: list[str] = []

    def start() -> dict[str, int]:
        tries.append(1)
        if len(tries) <= failures:
            raise LaunchError("out of memory")
        return {"tries": len(tries)}

    if failures < 2:
        assert retry.tried_twice(start, told.append) == {"tries": starts}
    else:
        with pytest.raises(LaunchError):
            retry.tried_twice(start, told.append)
    assert len(tries) == starts and len(told) == min(failures, 1)
