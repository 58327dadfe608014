"""Fill the annotation queue of a generation: `python -m flywheel.collect.run RUN_DIR`.

Candidates answer prompts of the training split only: a prompt that is tested on is never asked.
A prompt that an earlier generation asked comes back only where there are fewer new ones than the
queue is long, and only with an answer that nobody was asked about.
"""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from flywheel.collect.queue import choose
from flywheel.collect.settings import SAMPLING_FRAC, QueueSettings
from flywheel.datasets.manifest import read_split
from flywheel.process.clock import pieces
from flywheel.process.worker import start, use_threads
from flywheel.records.message import Conversation, dump, load
from flywheel.rollout import Policy, Response, RewardModel, sample

PIECE_SEED = 1009  # keeps the random numbers of the pieces of a limited time apart


def run(settings: QueueSettings, run_dir: Path) -> dict[str, Any]:
    """Sample candidates, score them, and write what should be judged."""
    reward = RewardModel.load(settings.reward_model)
    use_threads(reward.module.backbone.num_parameters(), 0)
    asked = _asked_before(settings)
    wanted, keys = _prompts(settings, asked)
    sampled = _candidates(settings, wanted)
    values = _values(settings, reward, wanted, sampled)
    prompts = wanted[: len(values)]  # those that there was time for
    candidates: list[list[tuple[Response, str]]] = [[] for _ in prompts]
    scores: list[list[float]] = [[] for _ in prompts]
    for place, found in enumerate(values):
        for who, value in zip(sampled[place], found, strict=True):
            if value is not None:  # too long to be scored: not asked about
                candidates[place].append(who)
                scores[place].append(value)
    texts = [{response.text for response, _ in found} for found in candidates]
    two = [place for place, found in enumerate(texts) if len(found) > 1]
    able = [place for place in two if texts[place] - asked.get(dump(prompts[place]), set())]
    chosen = choose(
        [scores[place] for place in able],
        length=settings.length,
        random_frac=settings.random_frac,
        seed=settings.seed,
    )
    lines = []
    for one in chosen:
        place = able[one.place]
        lines.append(
            {
                "queue_id": f"{settings.generation}-{keys[place][:16]}",
                "prompt": msgspec.to_builtins(prompts[place]),
                "responses": [response.text for response, _ in candidates[place]],
                "models": [model for _, model in candidates[place]],
                "scores": [round(score, 4) for score in scores[place]],
                "reason": one.reason,
                "probability": one.probability,
                "uncertainty": round(one.uncertainty, 4),
            }
        )
    path = Path(settings.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.replace(draft, path)
    return {
        "queue": str(path),
        "lines": len(lines),
        "random": sum(one.reason == "random" for one in chosen),
        "prompts_considered": len(prompts),
        "prompts_without_time": len(wanted) - len(prompts),
        "asked_before": sum(dump(prompt) in asked for prompt in prompts),
        "too_long": sum(value is None for found in values for value in found),
        "without_two_answers": len(prompts) - len(two),
        "without_a_new_answer": len(two) - len(able),
    }


def _asked_before(settings: QueueSettings) -> dict[str, set[str]]:
    """Prompts in the queues of earlier generations, with the answers that were put up."""
    output = Path(settings.output)
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(output.parent.glob("[!.]*.jsonl")):
        if path.stem < settings.generation:
            for text in path.read_text().splitlines():
                line = json.loads(text)
                asked[dump(msgspec.convert(line["prompt"], Conversation))] |= set(line["responses"])
    return dict(asked)


def _prompts(
    settings: QueueSettings, asked: dict[str, set[str]]
) -> tuple[list[Conversation], list[str]]:
    """Distinct prompts of the training split in an order that the seed mixes, and their keys.

    New ones first; those asked before only fill a queue that would be too short.
    """
    import numpy as np

    rows = read_split(Path(settings.preference_dataset), "train").to_pylist()
    distinct = sorted({row["prompt_key"]: load(row["prompt"]) for row in rows}.items())
    mixed = [
        distinct[place] for place in np.random.default_rng(settings.seed).permutation(len(distinct))
    ]
    fresh = [one for one in mixed if dump(one[1]) not in asked][: settings.prompts]
    missing = max(0, min(settings.length, settings.prompts) - len(fresh))
    again = [one for one in mixed if dump(one[1]) in asked][:missing]
    chosen = fresh + again
    return [prompt for _, prompt in chosen], [key for key, _ in chosen]


def _candidates(
    settings: QueueSettings, prompts: list[Conversation]
) -> list[list[tuple[Response, str]]]:
    """Different answers to each prompt, with who gave them: as many prompts as there is time for.

    The first policy finds out how many; where the second is slower, there are fewer still.
    """
    found: list[dict[str, tuple[Response, str]]] = [{} for _ in prompts]
    share = settings.candidates // 2
    for name, folder, count in (
        ("policy", settings.policy, settings.candidates - share),
        ("sft", settings.sft, share),
    ):
        policy, rows = Policy.load(folder), list[list[Response]]()
        for piece in pieces(prompts[: len(found)], settings.seconds_of(SAMPLING_FRAC)):
            rows += sample(
                policy,
                piece,
                samples=count,
                temperature=settings.temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=settings.seed + len(name) + PIECE_SEED * len(rows),
            )
        found = found[: len(rows)]
        for seen, row in zip(found, rows, strict=True):
            for one in row:
                if one.text:
                    seen.setdefault(one.text, (one, f"{name}:{settings.generation}"))
    return [list(seen.values()) for seen in found]


def _values(
    settings: QueueSettings,
    reward: RewardModel,
    prompts: list[Conversation],
    sampled: list[list[tuple[Response, str]]],
) -> list[list[float | None]]:
    """Scores of each prompt's candidates, None for one too long, while there is time."""
    values: list[list[float | None]] = []
    for piece in pieces(range(len(sampled)), settings.seconds_of(1 - 2 * SAMPLING_FRAC)):
        flat = [(place, response) for place in piece for response, _ in sampled[place]]
        scores = reward.score(
            [prompts[place] for place, _ in flat],
            [response.conversation for _, response in flat],
        )
        by_place: dict[int, list[float | None]] = {place: [] for place in piece}
        for (place, _), score in zip(flat, scores, strict=True):
            by_place[place].append(score)
        values += by_place.values()
    return values


if __name__ == "__main__":
    start(run, QueueSettings)
