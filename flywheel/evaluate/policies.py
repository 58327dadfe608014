"""Policies asked the prompts that nothing was trained on."""

from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from flywheel.evaluate.graders.graders import Asked, score_all
from flywheel.evaluate.settings import SAMPLING_FRAC, EvaluateSettings
from flywheel.evaluate.versus import Answers
from flywheel.process.clock import pieces
from flywheel.process.content import model_hash
from flywheel.rollout import Policy, Response, RewardModel, sample

HELD_BYTES = 2**27  # of weights on disk: larger ones are read again, which is little of their work


def loaded(model: str) -> Policy:
    """A policy that an evaluation comes back to: a small one is read once, until `let_go`."""
    size = sum(one.stat().st_size for one in Path(model).glob("*.safetensors"))
    return _held(model, model_hash(model)) if 0 < size <= HELD_BYTES else Policy.load(model)


def let_go() -> None:
    """Hold no policy any longer."""
    _held.cache_clear()


@lru_cache(maxsize=4)  # base, SFT policy, challenger, champion
def _held(model: str, content: str) -> Policy:
    return Policy.load(model)


def answer_all(
    names: dict[str, str],
    asked: list[Asked],
    reward: RewardModel,
    settings: EvaluateSettings,
    temperature: float,
) -> tuple[dict[str, Answers], list[Asked]]:
    """Let every policy answer the same prompts.

    What a prompt is answered depends on no other: evaluated again with more prompts, the same
    weights say the same to those that were asked before. Where the budget does not last, all of
    them are compared on the prompts that every one answered.
    """
    seconds = settings.seconds_of(SAMPLING_FRAC) / len(names)
    found: dict[str, list[Response]] = {}
    for name, folder in names.items():
        policy, answers = loaded(folder), list[Response]()
        for batch in pieces(asked, seconds):
            rows = sample(
                policy,
                [one.prompt for one in batch],
                temperature=temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=[seed_of(settings.seed, name, one.key) for one in batch],
            )
            answers += [row[0] for row in rows]
        found[name] = answers
        print(f"{name}: {len(answers)} answers at temperature {temperature:g}", flush=True)
    common = min(map(len, found.values()))
    asked = asked[:common]
    limit = settings.max_tokens
    return {
        name: Answers(answers[:common], score_all(asked, answers[:common], reward, limit))
        for name, answers in found.items()
    }, asked


def answer_alike(
    folders: list[str], asked: list[Asked], settings: EvaluateSettings, seconds: float
) -> list[list[Response]]:
    """What policies that differ little say with the same noise: as many prompts as all reach.

    Sampled alike, they differ by what they have learned, and less by luck.
    """
    found: list[list[Response]] = []
    for folder in folders:
        policy, answers = Policy.load(folder), list[Response]()
        for piece in pieces(asked, seconds / len(folders)):
            rows = sample(
                policy,
                [one.prompt for one in piece],
                temperature=settings.temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=[seed_of(settings.seed, "along", one.key) for one in piece],
            )
            answers += [row[0] for row in rows]
        found.append(answers)
    common = min(map(len, found), default=0)
    return [answers[:common] for answers in found]


def seed_of(seed: int, name: str, key: str) -> int:
    """The seed of one prompt: whom it is asked, and nothing of the other prompts, is in it."""
    return int.from_bytes(blake2b(f"{seed} {name} {key}".encode(), digest_size=8).digest())
