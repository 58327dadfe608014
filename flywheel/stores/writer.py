"""Who may write a durable copy: the home that knows its newest commit, and nobody else.

A home that was cut off after it wrote a commit, and before it noted that, knows it by the id that
it noted before. A copy of a home on another machine has the same past, but not the same next
commit: the second of the two to write is told.
"""

import hashlib

from flywheel.errors import StoreError
from flywheel.layout import Layout
from flywheel.stores.commit import Commit, Entry, newest_commit
from flywheel.stores.settings import PARTS, StorageSettings
from flywheel.stores.state import Known, Stamp, State, load_state, one_at_a_time
from flywheel.stores.store import Store


def check_writer(layout: Layout, settings: StorageSettings) -> None:
    """Refuse to work on a lake that another home has written since this one last looked.

    Raises:
        StoreUnreachable: The store does not answer.
        StoreError: It is another's by now, or is not this home's to begin with.
    """
    with one_at_a_time(layout):
        state, newest = state_of(layout, settings), newest_commit(Store(settings.lake, settings))
        agree(state, newest)
        check_salt(layout, state, newest)


def salt_of(layout: Layout) -> str:
    """Fingerprint of the secret behind the annotators' pseudonyms; empty where there is none."""
    path = layout.root / PARTS["salt"]
    if not path.exists():
        return ""
    return hashlib.sha256(b"flywheel salt\0" + path.read_bytes()).hexdigest()[:16]


def state_of(layout: Layout, settings: StorageSettings) -> State:
    """What this home knows of the copy at the address that is set; nothing of a new one."""
    known = load_state(layout)
    if known is None or known.address != settings.lake:
        return State(settings.lake, list(settings.parts))
    known.parts = list(settings.parts)
    return known


def agree(state: State, newest: Commit | None) -> None:
    """Go on only from the commit that this home knows; one that it was cut off after is its own."""
    if newest is None:
        if state.number:
            raise StoreError(
                f"{state.address} holds no commit any more, though this home wrote "
                f"{state.number}: the address is another, or it was emptied. Mend [storage] lake, "
                f"or, to put everything there again, remove the folder store in this home"
            )
        return
    if newest.number == state.number and newest.id == state.commit_id:
        return
    if newest.id == state.intent:  # written, and cut off before it was noted
        state.number, state.commit_id = newest.number, newest.id
        known = state.files
        state.files = {
            one.path: Known(one.sha256, one.size, _stamp_before(known.get(one.path), one))
            for one in newest.files
        }
        return
    if newest.number < state.number:
        raise StoreError(
            f"{state.address} was set back: it holds commit {newest.number}, this home wrote "
            f"{state.number}; bring its newer commits back, or use a fresh address"
        )
    raise written_by_another(state, newest)


def check_salt(layout: Layout, state: State, newest: Commit | None) -> None:
    """Refuse to go on with another secret behind the pseudonyms than the copy was written with."""
    if newest and newest.salt and not state.new_salt and salt_of(layout) != newest.salt:
        raise StoreError(
            f"{layout.root / PARTS['salt']} is missing, or not the one that {state.address} was "
            f"written with, so that one person would get two pseudonyms; put the old one back"
        )


def written_by_another(state: State, newest: Commit | None) -> StoreError:
    """What is told to the second of two writers."""
    by = f"commit {newest.number}, by {newest.host} at {newest.at}" if newest else "just now"
    return StoreError(
        f"{state.address} was written by another home: {by}; this home knows commit "
        f"{state.number or 'none'}. Two homes cannot write one lake: go on there, or bring this "
        f"home up to it with `flywheel restore`"
    )


def _stamp_before(known: Known | None, one: Entry) -> Stamp | None:
    return known.stamp if known and known.sha256 == one.sha256 else None
