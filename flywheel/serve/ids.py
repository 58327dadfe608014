"""Names that nobody can make up: signed ids of responses, and pseudonyms of users.

Both rest on the key of this home's pseudonyms, in its restricted folder. With that key gone, old
ids are refused as forged.
"""

import hmac
import re
import secrets
from datetime import UTC, date, datetime, timedelta

from flywheel.errors import ServeError
from flywheel.layout import Layout
from flywheel.privacy import Pseudonyms
from flywheel.serve.log import name_of

RESPONSE_ID = re.compile(r"resp-((\d{4}-\d{2}-\d{2})-(\d+)-[0-9a-f]{16})-([0-9a-f]{32})")


class Names:
    """What is signed with the key of a home."""

    def __init__(self, layout: Layout) -> None:
        self._keyed = Pseudonyms(layout).keyed

    def response_id(self) -> str:
        """A new one: the day and the process, whose file it stands in, chance, and a signature."""
        body = f"{name_of(datetime.now(UTC))}-{secrets.token_hex(8)}"
        return f"resp-{body}-{self._signature(body)}"

    def files_of(self, response_id: str) -> list[str]:
        """The names of the files in which the line of a response may stand.

        Raises:
            ServeError: It is no id of ours.
        """
        match = RESPONSE_ID.fullmatch(response_id)
        if not match or not hmac.compare_digest(match[4], self._signature(match[1])):
            raise ServeError(f"{response_id[:80]!r} is no response_id that was given out here")
        day = date.fromisoformat(match[2])
        return [f"{one.isoformat()}-{match[3]}" for one in (day, day + timedelta(days=1))]

    def user(self, name: str) -> str:
        """The pseudonym of a user, who may be the author of feedback, too."""
        return f"u-{self._keyed(f'served user:{name}')[:16]}"

    def feedback_id(self, author: str, key: str) -> str:
        """The id of one piece of feedback of an author: the same key, the same id."""
        return f"fb-{self._keyed(f'served feedback:{author}:{key}')[:24]}"

    def place(self, user: str, content_hash: str) -> float:
        """Where a user falls, from 0 to 1, for one challenger: the same at every request."""
        return int(self._keyed(f"served place:{content_hash}:{user}")[:12], 16) / 16**12

    def _signature(self, body: str) -> str:
        return self._keyed(f"served response:{body}")[:32]
