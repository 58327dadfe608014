"""The durable copy of a lake in a real S3 server: whole, by one writer, and back again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from s3fs import S3FileSystem

from flywheel.errors import StoreError, StoreUnreachable
from flywheel.ingest import land, landing_counts, read_batches
from flywheel.layout import Layout
from flywheel.stores import StorageSettings, check_writer, restore, store_facts, upload
from flywheel.stores.commit import newest_commit
from flywheel.stores.store import Store
from tests.s3_server import Proxy, bucket_of, s3, server

__all__ = ["s3", "server"]  # fixtures

ROOT = Path(__file__).parent.parent
PERSON = "ada@example.org"
UPLOAD = """
import json, sys
from pathlib import Path
from flywheel.layout import Layout
from flywheel.stores import StorageSettings, upload
settings = StorageSettings(**json.loads(sys.argv[2]))
print(upload(Layout(Path(sys.argv[1])), settings, log=lambda line: None).number)
"""


@pytest.fixture
def settings(server: str, s3: S3FileSystem, request: pytest.FixtureRequest) -> StorageSettings:
    return StorageSettings(
        lake=f"s3://{bucket_of(request)}/a lake/ü", endpoint_url=server, timeout_seconds=5.0
    )


@pytest.fixture
def home(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home")


def put(layout: Layout, name: str, *prompts: str, said: str = "r") -> None:
    lines = [
        json.dumps(
            {
                "kind": "demonstration",
                "prompt": prompt,
                "response": said,
                "annotator_id": PERSON,
            }
        )
        for prompt in prompts
    ]
    path = layout.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "broken"] if prompts else ["broken"]) + "\n")
    os.utime(path, (0, 0))


def land_inbox(layout: Layout, **how: Any) -> None:
    land([layout.inbox], layout, log=lambda line: None, **{"quarantine_limit": 0.6, **how})


def contents(layout: Layout) -> dict[str, bytes]:
    """What a copy holds of a home, by path."""
    return {
        str(path.relative_to(layout.root)): path.read_bytes()
        for top in ("lake", "artifacts", "registry")
        for path in sorted((layout.root / top).rglob("*"))
        if path.is_file() and path.name[0] not in "._" and path.parent.name[0] != "_"
        if path.name not in ("left.json", "alerts.jsonl")
    }


def share_salt(home: Layout, other: Layout) -> None:
    other.root.mkdir(exist_ok=True)
    (other.root / "annotators.salt").write_bytes((home.root / "annotators.salt").read_bytes())


def quietly(line: str) -> None:
    """Log nothing."""


def test_a_home_comes_back_byte_for_byte_and_goes_on(
    home: Layout, settings: StorageSettings, tmp_path: Path
) -> None:
    put(home, "desk/a.jsonl", "one", "two")
    put(home, "späti ü/b.jsonl", "three")
    land_inbox(home)
    frozen = home.dataset("preference", "g0001") / "train.parquet"
    frozen.parent.mkdir(parents=True)
    frozen.write_bytes(b"frozen")
    home.registry.mkdir()
    (home.registry / "ledger.jsonl").write_text("{}\n")
    (home.registry / "alerts.jsonl").write_text("{}\n")
    done = upload(home, settings, log=quietly)
    assert done.number == 1 and done.uploaded == done.files == len(contents(home))
    assert done.uploaded_bytes == sum(map(len, contents(home).values()))

    other = Layout(tmp_path / "other")
    share_salt(home, other)
    back = restore(other, settings, log=quietly)
    assert contents(other) == contents(home) and back.fetched == done.files
    assert landing_counts(other)["demonstration"] == 3
    put(other, "desk/c.jsonl", "four")
    land_inbox(other)
    assert upload(other, settings, log=quietly).number == 2
    assert [one.number for one in read_batches(other)] == [1, 2, 3]


def test_an_upload_puts_what_is_new_and_nothing_else(
    home: Layout, settings: StorageSettings
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    again = upload(home, settings, log=quietly)
    assert (again.number, again.uploaded, again.removed) == (1, 0, 0)
    put(home, "b.jsonl", "two")
    land_inbox(home)
    facts = store_facts(home)
    assert facts and facts["waiting"] == 3 and facts["commit"] == 1
    told: list[str] = []
    second = upload(home, settings, log=told.append)
    # rows, quarantined lines and the manifest of the second batch
    assert (second.number, second.uploaded, second.removed) == (2, 3, 0)
    assert "commit 2, 3 files" in told[0]
    facts = store_facts(home)
    assert facts and facts["waiting"] == 0 and facts["files"] == second.files


def test_what_was_rewritten_or_removed_here_is_so_there(
    home: Layout, settings: StorageSettings, s3: S3FileSystem, tmp_path: Path
) -> None:
    for name in "abcde":
        put(home, f"{name}.jsonl", name)
    land_inbox(home)
    upload(home, settings, log=quietly)
    first, second, *_ = read_batches(home)
    for path in home.lake.rglob(f"{first.batch_id}*"):
        path.unlink()
    erased = home.landing("demonstration") / f"{second.batch_id}.parquet"
    before = erased.read_bytes()
    erased.write_bytes(before[:-1] + b"?")
    done = upload(home, settings, log=quietly)
    assert (done.uploaded, done.removed) == (1, 3)
    objects = s3.find(settings.lake, detail=False)
    assert not [name for name in objects if first.batch_id in name]
    held = [s3.cat_file(name) for name in objects if erased.stem in name]
    assert before not in held and erased.read_bytes() in held
    assert len(objects) == done.files + done.number


def test_a_home_that_was_emptied_does_not_empty_its_copy(
    home: Layout, settings: StorageSettings
) -> None:
    put(home, "a.jsonl", "one")
    put(home, "b.jsonl", "two")
    land_inbox(home)
    upload(home, settings, log=quietly)
    files = 2 * 3  # rows, quarantined lines and manifest of each batch
    for path in home.batches.iterdir():
        path.unlink()
    with pytest.raises(StoreError, match=r"2 of the 2 batches.*--remove"):
        upload(home, settings, log=quietly)
    assert restore(home, settings, log=quietly).fetched == files
    assert len(read_batches(home)) == 2
    for path in home.batches.iterdir():
        path.unlink()
    assert upload(home, settings, log=quietly, remove=True).removed == files


@pytest.mark.parametrize("killed_at", ["before a put", "after a put", "after the commit"])
def test_an_upload_that_is_killed_shows_nobody_a_half_and_is_completed(
    home: Layout,
    settings: StorageSettings,
    server: str,
    s3: S3FileSystem,
    tmp_path: Path,
    killed_at: str,
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    for name in "bcdefg":
        put(home, f"{name}.jsonl", name)
    land_inbox(home)
    with Proxy(server) as proxy:
        chosen = {"lake": settings.lake, "endpoint_url": proxy.endpoint}
        process = subprocess.Popen(
            [sys.executable, "-c", UPLOAD, str(home.root), json.dumps(chosen)], cwd=ROOT
        )
        puts: list[str] = []

        def kill(method: str, path: str) -> None:
            if method == "PUT":
                puts.append(path)
            is_commit = method == "PUT" and "/commits/" in path
            if is_commit if killed_at == "after the commit" else len(puts) == 9:
                os.kill(process.pid, signal.SIGKILL)

        if killed_at == "before a put":
            proxy.before = kill
        else:
            proxy.after = kill
        assert process.wait() == -signal.SIGKILL
    commit = newest_commit(Store(settings.lake, settings))
    assert commit and commit.number == (2 if killed_at == "after the commit" else 1)
    held = set(s3.find(settings.lake, detail=False))
    root = settings.lake.removeprefix("s3://")
    assert {f"{root}/{one.key}" for one in commit.files} <= held

    with Proxy(server) as proxy:
        chosen = {"lake": settings.lake, "endpoint_url": proxy.endpoint}
        done = upload(home, StorageSettings(**chosen), log=quietly)
        again = [path for method, path in proxy.requests if method == "PUT"]
    assert done.number == 2 and done.files == len(contents(home))
    assert len(again) < 19  # 18 objects and the commit: what lies there whole is not put again
    assert len(s3.find(settings.lake)) == done.files + 2
    other = Layout(tmp_path / "other")
    restore(other, settings, log=quietly, new_salt=True)
    assert contents(other) == contents(home)


def test_a_stray_of_a_killed_upload_is_removed_when_its_file_is_gone(
    home: Layout, settings: StorageSettings, server: str, s3: S3FileSystem
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    secret = home.dataset("preference", "g0001") / "notes.parquet"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(b"to be erased")
    with Proxy(server) as proxy:
        proxy.before = lambda method, path: 503 if "/commits/" in path and method == "PUT" else None
        with pytest.raises(StoreUnreachable):
            upload(
                home,
                StorageSettings(lake=settings.lake, endpoint_url=proxy.endpoint),
                log=quietly,
            )
    assert any("notes" in name for name in s3.find(settings.lake))
    secret.unlink()
    assert upload(home, settings, log=quietly).number == 1
    assert not any("notes" in name for name in s3.find(settings.lake))


def test_the_second_of_two_writers_is_told_and_overwrites_nothing(
    home: Layout, settings: StorageSettings, tmp_path: Path
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    other = Layout(tmp_path / "other")
    with pytest.raises(StoreError, match=r"knows commit none.*flywheel restore"):
        check_writer(other, settings)
    share_salt(home, other)
    restore(other, settings, log=quietly)
    put(other, "b.jsonl", "two")
    land_inbox(other)
    upload(other, settings, log=quietly)
    put(home, "c.jsonl", "three")
    land_inbox(home)
    with pytest.raises(StoreError, match=r"written by another home: commit 2, by .* knows commit"):
        upload(home, settings, log=quietly)
    facts = store_facts(home)
    assert facts and "another home" in str(facts["trouble"]) and facts["waiting"] == 3
    with pytest.raises(StoreError, match=r"holds 3 files that .* does not know"):
        restore(home, settings, log=quietly)
    held = newest_commit(Store(settings.lake, settings))
    assert held and {one.path for one in held.files} == set(contents(other))


def test_of_two_writers_at_the_same_moment_one_is_told(
    home: Layout, settings: StorageSettings, server: str, tmp_path: Path
) -> None:
    """The other one commits between this one's look and its commit: only the store can tell."""
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    other = Layout(tmp_path / "other")
    restore(other, settings, log=quietly, new_salt=True)
    put(other, "b.jsonl", "two")
    land_inbox(other)
    put(home, "c.jsonl", "three")
    land_inbox(home)
    with Proxy(server) as proxy:

        def meanwhile(method: str, path: str) -> None:
            if method == "PUT" and "/commits/" in path:
                proxy.before = lambda method, path: None
                upload(other, settings, log=quietly)

        proxy.before = meanwhile
        late = StorageSettings(lake=settings.lake, endpoint_url=proxy.endpoint)
        with pytest.raises(StoreError, match="written by another home: commit 2"):
            upload(home, late, log=quietly)
    held = newest_commit(Store(settings.lake, settings))
    assert held and {one.path for one in held.files} == set(contents(other))


def test_a_home_that_is_behind_and_changed_nothing_is_brought_up(
    home: Layout, settings: StorageSettings, tmp_path: Path
) -> None:
    for name in "abc":
        put(home, f"{name}.jsonl", name)
    land_inbox(home)
    upload(home, settings, log=quietly)
    other = Layout(tmp_path / "other")
    share_salt(home, other)
    restore(other, settings, log=quietly)
    first, *_ = read_batches(other)
    for path in other.lake.rglob(f"{first.batch_id}*"):
        path.unlink()
    put(other, "d.jsonl", "four")
    land_inbox(other)
    upload(other, settings, log=quietly)
    done = restore(home, settings, log=quietly)
    assert (done.fetched, done.removed) == (3, 3) and contents(home) == contents(other)
    put(home, "e.jsonl", "five")
    land_inbox(home)
    assert upload(home, settings, log=quietly).number == 3


def test_a_restore_that_is_killed_lets_nobody_go_on_and_is_completed(
    home: Layout, settings: StorageSettings, server: str, tmp_path: Path
) -> None:
    for name in "abcd":
        put(home, f"{name}.jsonl", name)
    land_inbox(home)
    upload(home, settings, log=quietly)
    other = Layout(tmp_path / "other")
    with Proxy(server) as proxy:
        gets: list[str] = []
        proxy.before = lambda method, path: (
            503
            if method == "GET" and ".parquet" in path and not gets.append(path) and len(gets) > 3
            else None
        )
        with pytest.raises(StoreUnreachable):
            restore(
                other,
                StorageSettings(lake=settings.lake, endpoint_url=proxy.endpoint),
                log=quietly,
                new_salt=True,
            )
    assert contents(other) and read_batches(other) == []
    with pytest.raises(StoreError, match="flywheel restore"):
        check_writer(other, settings)
    restore(other, settings, log=quietly, new_salt=True)
    assert contents(other) == contents(home)


def test_pseudonyms_go_on_only_with_their_secret(
    home: Layout, settings: StorageSettings, s3: S3FileSystem, tmp_path: Path
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    salt = (home.root / "annotators.salt").read_bytes()
    assert not any(salt in s3.cat_file(name) for name in s3.find(settings.lake))
    other = Layout(tmp_path / "other")
    with pytest.raises(StoreError, match=r"annotators\.salt, .* is missing.*--new-salt"):
        restore(other, settings, log=quietly)
    other.root.mkdir(exist_ok=True)
    (other.root / "annotators.salt").write_text("another")
    with pytest.raises(StoreError, match="is another one"):
        restore(other, settings, log=quietly, new_salt=True)
    (home.root / "annotators.salt").unlink()
    with pytest.raises(StoreError, match="would get two pseudonyms"):
        check_writer(home, settings)

    kept = StorageSettings(
        lake=settings.lake, endpoint_url=settings.endpoint_url, parts=["lake", "salt"]
    )
    (home.root / "annotators.salt").write_bytes(salt)
    upload(home, kept, log=quietly)
    third = Layout(tmp_path / "third")
    restore(third, kept, log=quietly)
    assert (third.root / "annotators.salt").read_bytes() == salt
    assert (third.root / "annotators.salt").stat().st_mode & 0o077 == 0


def test_a_torn_object_and_a_commit_that_leads_out_of_the_home_are_refused(
    home: Layout, settings: StorageSettings, s3: S3FileSystem, tmp_path: Path
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    (name,) = [one for one in s3.find(settings.lake) if "/landing/" in one]
    whole = s3.cat_file(name)
    s3.pipe_file(name, whole[:-3])
    other = Layout(tmp_path / "other")
    with pytest.raises(StoreError, match="has sha256"):
        restore(other, settings, log=quietly, new_salt=True)
    s3.rm_file(name)
    with pytest.raises(StoreError, match="is gone"):
        restore(other, settings, log=quietly, new_salt=True)
    assert read_batches(other) == [] and not list(other.landing("demonstration").iterdir())
    s3.pipe_file(name, whole)

    (commit,) = [one for one in s3.find(settings.lake) if "/commits/" in one]
    text = s3.cat_file(commit).decode()
    for path in ("lake/../../evil", "/etc/evil", "dagster/evil", "lake/a\\u0000b"):
        s3.pipe_file(commit, text.replace("lake/batches", f"{path}/x").encode())
        with pytest.raises(StoreError, match="torn or of another version"):
            restore(other, settings, log=quietly, new_salt=True)
    facts = json.loads(text)
    facts["files"][0]["key"] = facts["files"][1]["key"]
    s3.pipe_file(commit, json.dumps(facts).encode())
    with pytest.raises(StoreError, match="not named after its content"):
        restore(other, settings, log=quietly, new_salt=True)
    s3.pipe_file(commit, text[: len(text) // 2].encode())
    with pytest.raises(StoreError, match="torn or of another version"):
        restore(other, settings, log=quietly, new_salt=True)


def test_a_store_that_fails_is_told_with_the_remedy_and_caught_up_later(
    home: Layout, settings: StorageSettings, server: str
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    with Proxy(server) as proxy:
        here = {"endpoint_url": proxy.endpoint, "timeout_seconds": 0.4}
        weak = StorageSettings(lake=settings.lake, **here)
        for status, kind, told in (
            (503, StoreUnreachable, "caught up when it answers again"),
            (403, StoreError, "access is refused"),
        ):
            proxy.before = lambda method, path, status=status: status
            with pytest.raises(kind, match=told):
                upload(home, weak, log=quietly)
        proxy.before = lambda method, path: time.sleep(1.0)  # longer than anybody waits
        with pytest.raises(StoreUnreachable, match="timeout"):
            upload(home, weak, log=quietly)
        missing = StorageSettings(lake="s3://no-such-bucket/lake", endpoint_url=server)
        with pytest.raises(StoreError, match=r"bucket does not exist.*create the bucket"):
            upload(home, missing, log=quietly)
    with pytest.raises(StoreUnreachable, match=r"Could not connect.*endpoint_url"):
        upload(home, StorageSettings(lake=settings.lake, **here), log=quietly)
    facts = store_facts(home)
    assert facts and "Could not connect" in str(facts["trouble"])
    put(home, "b.jsonl", "two")
    land_inbox(home)
    assert upload(home, settings, log=quietly).files == len(contents(home))
    facts = store_facts(home)
    assert facts and facts["trouble"] == ""


def test_an_answer_that_was_lost_does_not_make_a_home_its_own_rival(
    home: Layout, settings: StorageSettings, server: str
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    with Proxy(server) as proxy:

        def lose(method: str, path: str) -> None:
            if method == "PUT" and "/commits/" in path:
                proxy.after = lambda method, path: None
                time.sleep(1.5)

        proxy.after = lose
        slow = StorageSettings(lake=settings.lake, endpoint_url=proxy.endpoint, timeout_seconds=0.7)
        assert upload(home, slow, log=quietly).number == 1
    assert upload(home, settings, log=quietly).number == 1


def test_a_store_that_was_emptied_or_set_back_is_told(
    home: Layout, settings: StorageSettings, s3: S3FileSystem
) -> None:
    put(home, "a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    put(home, "b.jsonl", "two")
    land_inbox(home)
    upload(home, settings, log=quietly)
    *_, newest = sorted(one for one in s3.find(settings.lake) if "/commits/" in one)
    s3.rm_file(newest)
    with pytest.raises(StoreError, match="set back: it holds commit 1, this home wrote 2"):
        upload(home, settings, log=quietly)
    for name in s3.find(settings.lake):
        s3.rm_file(name)
    with pytest.raises(StoreError, match=r"holds no commit any more.*remove the folder store"):
        upload(home, settings, log=quietly)
    with pytest.raises(StoreError, match="holds no commit; mend"):
        restore(home, settings, log=quietly)


def test_old_commits_go_and_the_newest_stay(home: Layout, settings: StorageSettings) -> None:
    store = Store(settings.lake, settings)
    for number in range(23):
        marks = home.derived("marks")
        marks.parent.mkdir(parents=True, exist_ok=True)
        marks.write_bytes(str(number).encode())
        upload(home, settings, log=quietly)
    names = store.names("commits")
    assert len(names) == 20 and names[-1] == "000000023.json"
    assert len(store.objects()[0]) == 21


def test_a_commit_holds_what_was_decided_while_it_was_put(
    home: Layout, settings: StorageSettings, server: str, tmp_path: Path
) -> None:
    home.registry.mkdir(parents=True)
    ledger, head = home.registry / "ledger.jsonl", home.registry / "ledger.head.json"
    ledger.write_text("first\n")
    head.write_text("1")
    upload(home, settings, log=quietly)
    frozen = home.dataset("preference", "g0001") / "train.parquet"
    frozen.parent.mkdir(parents=True)
    frozen.write_bytes(b"frozen")
    with Proxy(server) as proxy:

        def decide(method: str, path: str) -> None:
            if method == "PUT" and "train" in path:
                with ledger.open("a") as file:
                    file.write("second\n")
                head.write_text("2")

        proxy.before = decide
        upload(home, StorageSettings(lake=settings.lake, endpoint_url=proxy.endpoint), log=quietly)
    other = Layout(tmp_path / "other")
    restore(other, settings, log=quietly)
    assert contents(other) == contents(home)
    assert (other.registry / ledger.name).read_text() == "first\nsecond\n"


def sql_of_the_documentation(lake: str) -> str:
    text = (ROOT / "docs" / "object_stores.md").read_text()
    block = text.split("```sql\n")[1].split("```")[0]
    body = block[block.index("set variable") :].replace("s3://acme-flywheel/refunds", lake)
    return body.replace("comparison", "demonstration")


def test_people_read_the_newest_commit_with_duckdb(home: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    settings = StorageSettings(lake=f"file://{folder}")
    for name in "ab":
        put(home, f"desk/{name}.jsonl", name)
        land_inbox(home)
        upload(home, settings, log=quietly)
    assert duckdb.sql(sql_of_the_documentation(str(folder))).fetchall() == [("desk", 2)]
    folder.rename(tmp_path / "gone")
    with pytest.raises(StoreError, match="not mounted"):
        upload(home, settings, log=quietly)


def test_duckdb_reads_the_copy_over_s3(
    home: Layout, settings: StorageSettings, server: str
) -> None:
    extension = pytest.importorskip("duckdb_extension_httpfs")
    put(home, "desk/a.jsonl", "one")
    land_inbox(home)
    upload(home, settings, log=quietly)
    (folder,) = extension.__path__
    file = Path(folder, "extensions", f"v{duckdb.__version__}", "httpfs.duckdb_extension")
    with duckdb.connect() as connection:
        connection.execute(f"load '{file}'")
        connection.execute(
            f"create secret (type s3, key_id 'test', secret 'test', endpoint '{server[7:]}', "
            f"url_style 'path', use_ssl false)"
        )
        found = connection.execute(sql_of_the_documentation(settings.lake)).fetchall()
    assert found == [("desk", 1)]
