"""The headline at the smallest scale: a base of a few thousand parameters, a hundred times it."""

import json
import shutil
from pathlib import Path

import pytest

from flywheel.errors import SettingsError
from flywheel.process.launch import launch
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.sample.deliver import corpus_path, corpus_table, publish
from flywheel.sample.headline import form_only, imitator, of_seed
from flywheel.sample.measure import evaluation_requests
from flywheel.sample.seeds import home_of
from flywheel.sample.world import write_reply
from flywheel.train.config import PretrainSettings
from tests.models_for_tests import freeze

PAGES = 200
SMALL = {"hidden": 4, "layers": 1, "heads": 2, "feed_forward": 4}
LARGE = {"hidden": 160, "layers": 2, "heads": 2, "feed_forward": 320}


def lay_turn(root: Path, seed: int) -> None:
    """What a turn leaves behind, as far as the headline reads it; the policy is the base."""
    layout = home_of(seed, root)
    publish(corpus_path(layout), corpus_table(PAGES, seed=seed))
    base = layout.checkpoint("base_policy", "g0001")
    settings = PretrainSettings(corpus=str(corpus_path(layout)), output=str(base), **SMALL)
    launch("flywheel.train.pretrain", settings, layout.root / "run", log=lambda line: None)
    shutil.copytree(base, layout.checkpoint("policy", "g0001"))
    rows = [
        {
            "prompt": dump(prompt_of(request.text)),
            "response": dump(response_of(write_reply(request))),
            "weight": 1.0,
            "record_uids": [str(place)],
        }
        for place, request in enumerate(evaluation_requests(seed)[:8])
    ]
    freeze(layout.dataset("demonstration", "g0001"), train=rows, validation=rows)
    layout.turn_result.write_text(json.dumps({"generation": "g0001"}))


@pytest.mark.slow
def test_the_headline_compares_with_a_base_of_100_times_the_size_and_its_controls(
    tmp_path: Path,
) -> None:
    lay_turn(tmp_path, 0)
    with pytest.raises(SettingsError, match="only 1 times the parameters, not 100"):
        of_seed(0, tmp_path, size=SMALL, pages=PAGES)
    found = of_seed(0, tmp_path, size=LARGE, pages=PAGES)
    assert len(found) == 6 and "same tokens" in next(iter(found))
    for one in found.values():
        assert 0 <= one.low <= one.value <= one.high <= 1
    assert found["a perfect imitator of #chat pages"].high < 0.5  # of a policy that knows nothing


def test_an_imitator_slips_and_the_form_alone_is_worth_less() -> None:
    requests = evaluation_requests(0)
    imitated, formal = (sum(golds) / 600 for golds in (imitator(requests, 0), form_only(requests)))
    assert formal < imitated < 1
