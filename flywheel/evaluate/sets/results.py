"""What an evaluation found on each evaluation set, by its name, version and hash."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.datasets.manifest import read_split
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.sets.rows import asked_of, by_set
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.versus import Answers, against, mean_scores, taken

Told = dict[str, Any]


def sets_of(settings: EvaluateSettings) -> list[Told]:
    """name, version, content_hash and prompts of each set of the evaluation dataset.

    Raises:
        EvaluationError: A set is not the one that was entered.
    """
    if not settings.evaluation_sets:
        return []
    rows = read_split(Path(settings.evaluation_dataset), "test").to_pylist()
    named = asked_of(rows, json.loads(Path(settings.evaluation_sets).read_text()))
    return [named[name] | {"prompts": len(mine)} for name, mine in by_set(rows).items()]


def results_by_set(
    sets: Sequence[Told],
    answers: dict[str, Answers],
    asked: Sequence[Asked],
    settings: EvaluateSettings,
) -> list[Told]:
    """Each set with how often the challenger is preferred on it, and what every policy scores.

    `asked` is how many of its prompts were: two evaluations that asked fewer asked the first ones.
    A set of which none was asked is left out. `compared` is how many of these have an outcome: the
    win rate of none is no number.
    """
    opponent = "champion" if "champion" in answers else "base"
    found = []
    for one in sets:
        places = [at for at, two in enumerate(asked) if two.evaluation_set == one["name"]]
        if not places:
            continue
        part = {name: taken(mine, places) for name, mine in answers.items()}
        here = [asked[place] for place in places]
        told = against(part["policy"], part[opponent], here, settings)
        found.append(
            {
                **one,
                "asked": len(places),
                "graders": sorted({asked.grader for asked in here}),
                "opponent": opponent,
                "win_rate": told["win_rate"],
                "ci": told["ci"],
                "se": told["se"],
                "compared": told["prompts"],
                "groups": len(told["outcomes"]),
                "mean_score": mean_scores(part, here, settings)["mean_score"],
            }
        )
    return found
