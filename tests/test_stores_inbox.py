"""Inboxes in object stores: objects of a real S3 server, and of a hub, land like files."""

import json
import os
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from s3fs import S3FileSystem

from assets import automation, stores
from assets.drive import land_now
from assets.keys import DURABLE_COPY, QUARANTINE
from assets.resources import Home
from flywheel.cli import main
from flywheel.errors import FlywheelError, SettingsError, StoreError
from flywheel.ingest import left_alone, quarantine_reasons, read_batches, standing_batches
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.stores import StorageSettings, land_all, new_objects, upload
from tests.older_home import make_older
from tests.s3_server import Proxy, bucket_of, s3, s3_server, server

__all__ = ["s3", "server"]  # fixtures


@pytest.fixture
def base(s3: S3FileSystem, request: pytest.FixtureRequest) -> str:
    return f"s3://{bucket_of(request)}/in box"


@pytest.fixture
def home(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "home")
    layout.inbox.mkdir(parents=True)
    return layout


def lines(*prompts: str) -> bytes:
    rows = [{"kind": "demonstration", "prompt": one, "response": "r"} for one in prompts]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def take_in(home: Layout, *inbox: str, server: str, paths: tuple[str, ...] = (), **how: Any) -> Any:
    settings = StorageSettings(inbox=list(inbox), endpoint_url=server, timeout_seconds=3.0)
    return land_all(paths, home, settings, log=lambda line: None, **how)


def prompts(home: Layout) -> list[str]:
    return sorted(read_folder(home.landing("demonstration"))["prompt_text"].to_pylist())


def test_objects_land_once_under_their_address(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    import gzip

    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one", "two"))
    s3.pipe_file(f"{base}/späti ü/deep+er/b%20 c?#.jsonl.gz", gzip.compress(lines("three")))
    s3.pipe_file(f"{base}/loose.jsonl", lines("four") + b"broken\n")
    s3.pipe_file(f"{base}/desk/", b"")
    s3.pipe_file(f"{base}/empty.jsonl", b"")
    with Proxy(server) as proxy:
        landed = take_in(home, base, server=proxy.endpoint, quarantine_limit=0.6)
        facts = {one.file: one.source for one in landed.batches}
        assert facts == {
            f"{base}/desk/a.jsonl": "desk",
            f"{base}/späti ü/deep+er/b%20 c?#.jsonl.gz": "späti ü",
            f"{base}/loose.jsonl": "in box",
            f"{base}/empty.jsonl": "in box",
        }
        assert prompts(home) == ["four", "one", "three", "two"]
        assert set(read_folder(home.quarantine)["file"].to_pylist()) == {f"{base}/loose.jsonl"}
        assert not [path for path in home.fetched.rglob("*.jsonl*")]
        asked = len(proxy.requests)
        assert take_in(home, base, server=proxy.endpoint).batches == []
        assert len(proxy.requests) == asked + 1  # one listing, and nothing is fetched again


def test_a_key_that_is_written_again_lands_by_its_content(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one"))
    take_in(home, base, server=server)
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one"))
    s3.pipe_file(f"{base}/desk/copy.jsonl", lines("one"))
    assert take_in(home, base, server=server).batches == []
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("two"))
    (batch,) = take_in(home, base, server=server).batches
    assert batch.new_rows_by_kind == {"demonstration": 1} and prompts(home) == ["one", "two"]
    s3.rm_file(f"{base}/desk/a.jsonl")
    assert take_in(home, base, server=server).batches == []
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("two"))
    assert take_in(home, base, server=server).batches == []


def test_objects_that_an_older_release_fetched_are_known(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    good, bad, late = lines("one"), lines("two") + b"broken\n", lines("ten") + b"no\n"
    s3.pipe_file(f"{base}/desk/a.jsonl", good)
    s3.pipe_file(f"{base}/desk/bad.jsonl", bad)
    s3.pipe_file(f"{base}/desk/late.jsonl", late)
    *_, killed = take_in(home, base, server=server).batches
    make_older(home, good, bad, late)
    where = StorageSettings(inbox=[base], endpoint_url=server, timeout_seconds=3.0)
    assert new_objects(home, where) == []
    with Proxy(server) as proxy:
        take_in(home, base, server=proxy.endpoint)
        assert not any(method == "GET" and ".jsonl" in path for method, path in proxy.requests)
    (home.batches / f"{killed.batch_id}.json").unlink()  # it was fetched and had not landed
    s3.pipe_file(f"{base}/desk/copy.jsonl", good)
    s3.pipe_file(f"{base}/desk/more.jsonl", lines("six"))
    relaxed = take_in(home, base, server=server, quarantine_limit=0.5).batches
    assert [one.file.rpartition("/")[2] for one in relaxed] == [
        "bad.jsonl",
        "late.jsonl",
        "more.jsonl",
    ]
    assert new_objects(home, where) == [] and not [*home.fetched.rglob("*.jsonl")]


def test_an_object_that_is_overwritten_while_it_is_fetched_is_left_for_the_next_time(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one"))
    with Proxy(server) as proxy:

        def overwrite(method: str, path: str) -> None:
            if method == "GET" and "a.jsonl" in path:
                s3.pipe_file(f"{base}/desk/a.jsonl", lines("two"))

        proxy.after = overwrite
        assert take_in(home, base, server=proxy.endpoint).batches == []
    (left,) = left_alone(home)
    assert left["file"] == f"{base}/desk/a.jsonl" and "written again" in left["reason"]
    take_in(home, base, server=server)
    assert prompts(home) == ["two"] and left_alone(home) == []


def test_a_blocked_object_is_kept_here_until_it_is_repaired_or_gone(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one") + b"broken\n")
    s3.pipe_file(f"{base}/desk/b.jsonl", b"broken\n")
    assert [one.blocked for one in take_in(home, base, server=server).batches] == [True, True]
    assert len([one for one in standing_batches(home) if one.blocked]) == 2
    with Proxy(server) as proxy:
        take_in(home, base, server=proxy.endpoint)
        assert not any(method == "GET" and ".jsonl" in path for method, path in proxy.requests)
        relaxed = take_in(home, base, server=proxy.endpoint, quarantine_limit=0.5)
    assert [one.rows for one in relaxed.batches if not one.blocked] == [1]
    s3.rm_file(f"{base}/desk/b.jsonl")
    take_in(home, base, server=server)
    assert [one.file for one in standing_batches(home)] == [f"{base}/desk/a.jsonl"]
    assert quarantine_reasons(home) == {"invalid_json": 1}
    assert not [path for path in home.fetched.rglob("*.jsonl")]


def test_keys_that_are_no_paths_are_left_alone_and_written_nowhere(
    home: Layout, s3: S3FileSystem, base: str, server: str, tmp_path: Path
) -> None:
    bad = ["../up.jsonl", "x/../../../up.jsonl", "a//b.jsonl", "./c.jsonl", f"{'n' * 256}.jsonl"]
    for key in bad:
        s3.pipe_file(f"{base}/{key}", lines(key))
    s3.pipe_file(f"{base}/notes.txt", b"no data")
    s3.pipe_file(f"{base}/half.jsonl.part", b"{")
    s3.pipe_file(f"{base}/.hidden.jsonl", lines("hidden"))
    s3.pipe_file(f"{base}/x.jsonl", lines("file"))
    s3.pipe_file(f"{base}/x.jsonl/part.jsonl", lines("folder"))
    before = {path for path in tmp_path.rglob("*") if home.root not in path.parents}
    take_in(home, base, server=server)
    reasons = {one["file"].removeprefix(f"{base}/"): one["reason"] for one in left_alone(home)}
    assert reasons.keys() == {*bad, "notes.txt", "half.jsonl.part", "x.jsonl/part.jsonl"}
    assert "does not end like data" in reasons["notes.txt"]
    assert "like a draft" in reasons["half.jsonl.part"]
    assert "also the folder" in reasons["x.jsonl/part.jsonl"]
    assert prompts(home) == ["file"]
    assert {path for path in tmp_path.rglob("*") if home.root not in path.parents} == before


def test_an_address_that_somebody_names_lands_with_or_without_a_slash(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    table = pa.table({"q": ["x"], "a": ["y"]})
    with s3.open(f"{base}/desk/t.parquet", "wb") as file:
        pq.write_table(table, file)
    s3.pipe_file(f"{base}/desk/odd.name", lines("named"))
    (table_batch,) = take_in(home, server=server, paths=(f"{base}/desk/",)).batches
    assert (table_batch.format, table_batch.source, table_batch.rows) == ("raw", "desk", 1)
    (named,) = take_in(home, server=server, paths=(f"{base}/desk/odd.name",)).batches
    assert (named.file, named.source) == (f"{base}/desk/odd.name", "desk")
    (renamed,) = take_in(
        home, server=server, paths=(f"{base}/desk",), source="ours", format="raw"
    ).batches or [None]
    assert renamed is None  # it had landed
    with pytest.raises(StoreError, match="bucket does not exist"):
        take_in(home, server=server, paths=("s3://no-such-bucket/x",))


def test_a_store_that_fails_keeps_no_file_and_no_other_store_from_landing(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    local = home.inbox / "local.jsonl"
    local.write_bytes(lines("local"))
    os.utime(local, (0, 0))
    s3.pipe_file(f"{base}/a.jsonl", lines("remote"))
    landed = take_in(home, "s3://no-such-bucket/x", base, server=server)
    assert prompts(home) == ["local", "remote"]
    (trouble,) = landed.troubles
    assert "bucket does not exist" in trouble and "[storage]" in trouble
    assert [one["file"] for one in left_alone(home)] == ["s3://no-such-bucket/x"]


def test_large_inboxes_are_fetched_in_portions(
    home: Layout, s3: S3FileSystem, base: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.stores.inbox.PORTION_FILES", 2)
    for name in "abcde":
        s3.pipe_file(f"{base}/{name}.jsonl", lines(name))
    most = 0

    def count(line: str) -> None:
        nonlocal most
        most = max(most, len(list(home.fetched.rglob("*.jsonl"))))

    settings = StorageSettings(inbox=[base], endpoint_url=server)
    assert len(land_all([], home, settings, log=count).batches) == 5 and most == 2


def test_the_sensor_lists_a_store_only_now_and_then(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one"))
    with Proxy(server) as proxy:
        (home.root / "settings.toml").write_text(
            f'[storage]\ninbox = ["{base}"]\nendpoint_url = "{proxy.endpoint}"\npoll_seconds = 60\n'
        )
        where = Home(root=str(home.root))
        instance = dg.DagsterInstance.ephemeral()

        def tick(cursor: str | None) -> tuple[Any, str | None]:
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, resources={"home": where}
            )
            return automation.new_files_in_the_inbox(context), context.cursor

        asked, cursor = tick(None)
        assert isinstance(asked, dg.RunRequest) and len(proxy.requests) == 1
        again, cursor = tick(cursor)
        assert isinstance(again, dg.SkipReason) and len(proxy.requests) == 1
        same, cursor = tick(str(time.time() - 61))
        assert same.run_key == asked.run_key  # the daemon starts one run a key
        s3.pipe_file(f"{base}/desk/bad.jsonl", b"broken\n")
        land_all([], home, where.storage, log=lambda line: None)
        assert new_objects(home, where.storage) == []  # what is blocked does not ask for a run
        skipped, _ = tick(str(time.time() - 61))
        assert isinstance(skipped, dg.SkipReason)


def test_landing_in_dagster_fetches_and_copies_and_tells_of_both(
    home: Layout, s3: S3FileSystem, base: str, server: str, tmp_path: Path
) -> None:
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one"))
    settings = (
        f'[storage]\ninbox = ["{base}", "s3://no-such-bucket/x"]\nendpoint_url = "{server}"\n'
        f'lake = "{base[: -len("in box")]}lake"\n'
    )
    (home.root / "settings.toml").write_text(settings)
    where = Home(root=str(home.root))
    from assets.definitions import defs

    instance = dg.DagsterInstance.ephemeral()
    result = defs.resolve_job_def("land_inbox").execute_in_process(
        instance=instance, resources={**(defs.resources or {}), "home": where}
    )
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert not checks["inboxes_in_stores_answered"].passed
    assert "bucket does not exist" in checks["inboxes_in_stores_answered"].description
    assert checks["everything_is_in_the_store"].passed
    copied = instance.get_latest_materialization_event(DURABLE_COPY).asset_materialization.metadata
    assert copied["waiting"].value == 0 and copied["uploaded_files"].value > 2
    assert instance.get_latest_materialization_event(QUARANTINE)

    with dg.build_sensor_context(instance=instance, resources={"home": where}) as context:
        assert isinstance(stores.changes_not_in_the_store(context), dg.SkipReason)
        home.derived("marks").write_bytes(b"new")
        assert isinstance(stores.changes_not_in_the_store(context), dg.RunRequest)

    other = Layout(tmp_path / "other")
    other.root.mkdir()
    (other.root / "settings.toml").write_text(settings)
    with pytest.raises(FlywheelError, match=r"written by another home.*flywheel restore"):
        land_now(Home(root=str(other.root)), [])
    assert read_batches(other) == []


def test_a_blocked_file_does_not_keep_the_rest_from_being_copied(
    home: Layout, s3: S3FileSystem, base: str, server: str
) -> None:
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one"))
    s3.pipe_file(f"{base}/desk/b.jsonl", b"broken\n")
    (home.root / "settings.toml").write_text(
        f'[storage]\ninbox = ["{base}"]\nendpoint_url = "{server}"\n'
        f'lake = "{base[: -len("in box")]}lake"\n'
    )
    first = home.inbox / "first.jsonl"
    first.write_bytes(lines("first"))
    os.utime(first, (0, 0))
    where = Home(root=str(home.root))
    with pytest.raises(FlywheelError, match=r"b\.jsonl: it holds no object"):
        land_now(where, [])
    held = s3.find(f"{base[: -len('in box')]}lake")
    assert sum("lake/batches/" in name for name in held) == 3


def command(
    home: Layout, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    """Status and output of one command, as `flywheel` would give them in this home."""
    patch.setattr("flywheel.cli.home", lambda: Home(root=str(home.root)))
    capsys.readouterr()
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out if status == 0 else said.err


def test_the_command_line_lands_an_address_uploads_restores_and_says_what_stands(
    home: Layout,
    s3: S3FileSystem,
    base: str,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(layout: Layout, *arguments: str) -> tuple[int, str]:
        return command(layout, monkeypatch, capsys, *arguments)

    lake = f"{base[: -len('in box')]}lake"
    s3.pipe_file(f"{base}/desk/a.jsonl", lines("one"))
    assert "no store is set" in call(home, "upload")[1]
    (home.root / "settings.toml").write_text(
        f'[storage]\nlake = "{lake}"\nendpoint_url = "{server}"\n'
    )
    status, said = call(home, "land", f"{base}/desk", "--json")
    assert [one["file"] for one in json.loads(said)["batches"]] == [f"{base}/desk/a.jsonl"]
    facts = json.loads(call(home, "status", "--json")[1])["store"]
    assert (facts["address"], facts["commit"], facts["waiting"]) == (lake, 1, 0)
    home.derived("marks").write_bytes(b"new")
    assert json.loads(call(home, "upload", "--json")[1])["number"] == 2
    other = Layout(tmp_path / "other")
    other.root.mkdir()
    (other.root / "settings.toml").write_bytes((home.root / "settings.toml").read_bytes())
    status, said = call(other, "restore")
    assert status == 1 and "--new-salt" in said
    assert call(other, "restore", "--new-salt")[0] == 0
    assert prompts(other) == ["one"]
    assert f"{lake}: " in " ".join(call(other, "status")[1].split())


def test_wrong_credentials_are_told_without_them(
    home: Layout, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of its own, which asks for signatures of keys that it knows; it knows none."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    with s3_server(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="0") as strict:
        settings = StorageSettings(
            inbox=["s3://bucket/in"], lake="s3://bucket/lake", endpoint_url=strict
        )
        (told,) = land_all([], home, settings, log=lambda line: None).troubles
        assert "access is refused" in told and "credentials" in told
        with pytest.raises(StoreError, match="access is refused") as caught:
            upload(home, settings, log=lambda line: None)
        assert "do-not-tell" not in told + str(caught.value)
    lake = {"lake": "s3://bucket/lake", "endpoint_url": server}
    with pytest.raises(StoreError, match=r"\(nobody\) could not be found.*profile"):
        upload(home, StorageSettings(**lake, profile="nobody"), log=lambda line: None)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match="there are no credentials"):
        upload(home, StorageSettings(**lake), log=lambda line: None)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"inbox": ["bucket/x"]}, "no address of an object store"),
        ({"inbox": [3]}, "no address of an object store"),
        ({"inbox": ["s3://key:secret@bucket/x"]}, "take credentials out"),
        ({"inbox": ["s3://bucket/../x"]}, "holds an empty name, or a dot"),
        ({"inbox": ["simplecache::s3://bucket/x"]}, "no address"),
        ({"inbox": ["file:///tmp/drop"]}, "link it below the inbox"),
        ({"inbox": ["s3://b/x"], "lake": "s3://b/x/lake"}, "lie in each other"),
        ({"lake": "s3://b/x", "parts": ["all"]}, "parts has no use for 'all'"),
        ({"lake": f"s3://b/{'ü' * 60}"}, "too long"),
        ({"lake": "s3://b/x", "timeout_seconds": 0.0}, "must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        StorageSettings(**table)
    assert "secret" not in str(caught.value)


def test_a_store_of_no_known_kind_is_refused_with_what_to_install(home: Layout) -> None:
    with pytest.raises(SettingsError, match="pip install gcsfs"):
        land_all(["gs://bucket/x"], home, StorageSettings(), log=lambda line: None)
    with pytest.raises(SettingsError, match="known are s3, gs, az, hf and file"):
        land_all(["nowhere://bucket/x"], home, StorageSettings(), log=lambda line: None)
