"""The reference: one file for all runs that would compute the same, and no wrong one believed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from flywheel.datasets.manifest import read_split
from flywheel.datasets.render import Rendered
from flywheel.errors import TrainingError
from flywheel.models.load import load_causal
from flywheel.models.logps import ResponseLogps, pad
from flywheel.process.clock import PIECE
from flywheel.process.launch import launch
from flywheel.train import dpo, kto, reference
from flywheel.train.config_policy import DpoSettings, KtoSettings
from flywheel.train.engine import Engine
from flywheel.train.reference import Known, reference_of, response_nats
from tests.models_for_tests import freeze, preferences, thumbs, tiny

ROWS = [
    (Rendered([1, 4, 5, 6, 2], 2), Rendered([1, 4, 9, 2], 2)),
    (Rendered([1, 7, 8, 9, 10, 11, 2], 4, observed=((5, 6),)), Rendered([1, 7, 2], 2)),
    (Rendered([1, 5, 2], 1), Rendered([1, 5, 5, 5, 5, 2], 1)),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def engine(base: str) -> Engine:
    return Engine(ResponseLogps(load_causal(base)), settings(base))


def settings(base: str, folder: Path | str = "", **chosen: Any) -> DpoSettings:
    return DpoSettings(
        model=base, dataset="", output="", references=str(folder), zero_stage=0, **chosen
    )


def known(engine: Engine, base: str, folder: Path, rows: Any = ROWS, **chosen: Any) -> Known:
    return reference_of(engine, rows, settings(base, folder, **chosen), folder / "run", 1.0)[0]


def files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.parquet")


def test_it_holds_what_the_untrained_policy_says_of_every_text(
    engine: Engine, base: str, tmp_path: Path
) -> None:
    found = known(engine, base, tmp_path)
    module = ResponseLogps(load_causal(base))
    for row, nats in zip(ROWS, found.values(), strict=True):
        alone = [float(module(*pad([text], "cpu")).detach().sum()) for text in row]
        assert nats == pytest.approx(alone, abs=1e-5)
    texts = [text for row in ROWS for text in row]
    one_by_one, at_once = (response_nats(engine, texts, budget) for budget in (1, 10**6))
    assert one_by_one == pytest.approx(at_once, abs=1e-5)


def test_it_is_read_back_bit_for_bit_and_not_computed_again(
    engine: Engine, base: str, tmp_path: Path
) -> None:
    first = reference_of(engine, ROWS, settings(base, tmp_path), tmp_path, 1.0)
    (path,) = files(tmp_path)
    written = path.stat().st_ino
    again = reference_of(engine, ROWS, settings(base, tmp_path, beta=0.7), tmp_path, 1.0)
    assert again == first and path.stat().st_ino == written


@pytest.mark.parametrize(
    "other",
    [
        Rendered([1, 4, 5, 7, 2], 2),  # another token
        Rendered([1, 4, 5, 6, 2], 3),  # the same tokens, fewer of them learnt
        Rendered([1, 4, 5, 6, 2], 2, observed=((3, 4),)),
    ],
)
def test_other_rows_are_another_file(
    engine: Engine, base: str, tmp_path: Path, other: Rendered
) -> None:
    known(engine, base, tmp_path)
    known(engine, base, tmp_path, [(other, ROWS[0][1]), *ROWS[1:]])
    assert len(list(files(tmp_path))) == 2


def test_other_weights_are_another_file(engine: Engine, base: str, tmp_path: Path) -> None:
    folder = tmp_path / "references"
    known(engine, base, folder)
    known(engine, tiny(tmp_path / "other", seed=1), folder)
    assert len(list(files(folder))) == 2


def test_another_precision_is_another_file(engine: Engine, base: str, tmp_path: Path) -> None:
    known(engine, base, tmp_path)
    rounded = Engine(ResponseLogps(load_causal(base)), replace(settings(base), precision="fp32"))
    rounded.autocasts = True
    known(rounded, base, tmp_path)
    assert len(list(files(tmp_path))) == 2


def test_a_hurried_run_keeps_what_it_reached_and_finds_the_same_again(
    engine: Engine, base: str, tmp_path: Path
) -> None:
    rows = [(Rendered([1, 4 + place % 8, 5, 2], 2),) for place in range(3 * PIECE)]
    hurried = known(engine, base, tmp_path, rows, budget_seconds=1e-6)
    assert len(hurried) == PIECE and list(hurried) == sorted(hurried)
    assert known(engine, base, tmp_path, rows, budget_seconds=1e-6) == hurried
    whole = known(engine, base, tmp_path, rows)
    assert list(whole) == list(range(3 * PIECE))  # more time, another file
    for place, nats in hurried.items():
        assert whole[place] == pytest.approx(nats, abs=1e-5)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def edit(path: Path) -> None:
    """A whole Parquet file, which says other numbers than its hash was made of."""
    table = pq.read_table(path)
    nats = pa.array([[0.0, 0.0]] * len(table), pa.list_(pa.float64()))
    pq.write_table(table.set_column(1, "nats", nats), path)


def unsigned(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


@pytest.mark.parametrize("damage", [cut, empty, edit, unsigned])
def test_a_damaged_file_is_told_of_and_computed_again(
    engine: Engine, base: str, tmp_path: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = known(engine, base, tmp_path)
    (path,) = files(tmp_path)
    damage(path)
    assert known(engine, base, tmp_path) == before
    assert f"{path} is damaged and is computed again" in capsys.readouterr().out
    assert known(engine, base, tmp_path) == before
    assert not capsys.readouterr().out


def test_a_whole_file_that_the_model_does_not_bear_out_is_refused(
    engine: Engine, base: str, tmp_path: Path
) -> None:
    before = known(engine, base, tmp_path)
    (path,) = files(tmp_path)
    drifted = {place: (a, b + 0.02) for place, (a, b) in before.items()}
    reference._write(path, drifted, 1.0)
    with pytest.raises(TrainingError, match=rf"(?s){path}.*now gives it.*delete the file"):
        known(engine, base, tmp_path)
    path.unlink()
    assert known(engine, base, tmp_path) == before


def test_a_policy_that_has_moved_is_no_reference(base: str, tmp_path: Path) -> None:
    engine = Engine(ResponseLogps(load_causal(base)), settings(base))
    known(engine, base, tmp_path)
    with torch.no_grad():
        for weight in engine.engine.module.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator()))
    with pytest.raises(TrainingError, match="other weights under the same name"):
        known(engine, base, tmp_path)


def test_runs_of_one_reference_share_its_file_whatever_their_loss_and_adapters(
    base: str, tmp_path: Path
) -> None:
    shared = tmp_path / "references"
    pairs = DpoSettings(
        model=base,
        dataset=preferences(tmp_path / "preference"),
        output=str(tmp_path / "policy"),
        references=str(shared),
        batch=16,
    )
    results = []
    for name, chosen in (
        ("dpo", pairs),
        ("ipo", replace(pairs, loss="ipo", beta=0.5)),
        ("lora", replace(pairs, lora_rank=2)),
    ):
        (tmp_path / name).mkdir()
        results.append(dpo.run(chosen, tmp_path / name))
    written = {path.name: path.stat().st_ino for path in files(shared)}
    assert len(written) == 2  # of the train pairs, and of those held out
    assert len({result["reference_seconds"] for result in results}) == 1
    (tmp_path / "kto").mkdir()
    rated = KtoSettings(
        model=base,
        ratings=thumbs(tmp_path / "rating"),
        output=str(tmp_path / "policy"),
        references=str(shared),
    )
    kto.run(rated, tmp_path / "kto")
    after = {path.name: path.stat().st_ino for path in files(shared)}
    assert len(after) == 4 and after.items() > written.items()


def test_a_finished_run_is_read_back_though_its_references_are_new(
    base: str, tmp_path: Path
) -> None:
    chosen = DpoSettings(
        model=base,
        dataset=preferences(tmp_path / "preference"),
        output=str(tmp_path / "policy"),
        references=str(tmp_path / "references"),
    )
    told: list[str] = []
    first = launch("flywheel.train.dpo", chosen, tmp_path / "run", log=told.append)
    again = launch("flywheel.train.dpo", chosen, tmp_path / "run", log=told.append)
    assert again == first and "is read back" in told[-1]
    assert len(list(files(tmp_path / "references"))) == 2


@pytest.mark.slow
def test_two_processes_share_the_work_and_the_file(base: str, tmp_path: Path) -> None:
    rows = read_split(preferences(tmp_path / "some"), "train").to_pylist()
    chosen = DpoSettings(
        model=base,
        dataset=freeze(tmp_path / "preference", train=rows[:3], validation=rows[:1]),
        output=str(tmp_path / "policy"),
        references=str(tmp_path / "references"),
        micro_tokens=5,  # one process has three batches of texts, the other two
        zero_stage=3,
    )
    quiet: dict[str, Any] = {"log": lambda line: None}
    two = launch("flywheel.train.dpo", chosen, tmp_path / "two", devices=2, **quiet)
    written = {path.name: path.stat().st_ino for path in files(tmp_path / "references")}
    one = launch("flywheel.train.dpo", replace(chosen, zero_stage=0), tmp_path / "one", **quiet)
    assert {p.name: p.stat().st_ino for p in files(tmp_path / "references")} == written
    assert (two["world"], one["world"]) == (2, 1)
    assert one["start_loss"] == pytest.approx(two["start_loss"], abs=1e-5)
