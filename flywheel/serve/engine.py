"""One thread that answers: what waits is sampled together, and what nobody waits for comes last.

An answer depends on its own seed and on no other request in its batch (`flywheel.rollout`). What
is handed in *behind* (a shadow's answer) runs only while nobody waits.
"""

import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from flywheel.errors import FlywheelError, ServeError
from flywheel.process.worker import use_threads
from flywheel.rollout import Policy, Response, ServerPolicy, sample_ids

IDLE_SECONDS = 0.05  # how late it is seen that something was handed in behind
MOST_BEHIND = 256  # more of what nobody waits for is let go, and counted


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint that is ready to answer."""

    generation: str
    content_hash: str
    policy: Policy | ServerPolicy

    def sample(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Response]:
        """One answer to each prompt; with one thread where the model is small."""
        if isinstance(self.policy, Policy):
            use_threads(sum(one.numel() for one in self.policy.model.parameters()), 0)
        return [one for (one,) in sample_ids(self.policy, prompts, **options)]


@dataclass(slots=True)
class Job:
    """One answer that somebody waits for."""

    loaded: Loaded
    ids: Sequence[int]
    temperature: float
    max_tokens: int
    seed: int
    answer: "Future[Response]" = field(default_factory=Future)


class Engine:
    """The thread, and what waits for it."""

    def __init__(self, most_waiting: int) -> None:
        self.let_go = 0  # of what was handed in behind
        self._waiting: queue.Queue[Job | None] = queue.Queue(most_waiting)
        self._behind: deque[Callable[[], object]] = deque()
        self._thread = threading.Thread(target=self._work, name="flywheel-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting.qsize()

    def ask(self, job: Job) -> "Future[Response]":
        """Have a job answered.

        Raises:
            ServeError: Too many wait already.
        """
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            raise ServeError("too many requests wait; come again in a moment") from None
        return job.answer

    def behind(self, work: Callable[[], object]) -> None:
        """Have something done once nobody waits; it must raise nothing."""
        if len(self._behind) >= MOST_BEHIND:
            self.let_go += 1
            return
        self._behind.append(work)

    def close(self) -> None:
        """End the thread after what waits is answered; what was handed in behind is let go."""
        self._behind.clear()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                jobs = [self._waiting.get(timeout=IDLE_SECONDS if not self._behind else 0.001)]
            except queue.Empty:
                if self._behind:
                    self._behind.popleft()()
                continue
            while True:
                try:
                    jobs.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            alike: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
            for job in jobs:
                if job is not None and job.answer.set_running_or_notify_cancel():
                    alike[id(job.loaded), job.temperature, job.max_tokens].append(job)
            for batch in alike.values():
                _answer(batch)
            if None in jobs:
                return


def _answer(jobs: Sequence[Job]) -> None:
    """Sample jobs of one policy, temperature and length; what one of them breaks, it alone hears.

    Whatever goes wrong is told to who asked: the thread goes on.
    """
    one = jobs[0]
    try:
        answers = one.loaded.sample(
            [job.ids for job in jobs],
            temperature=one.temperature,
            max_new_tokens=one.max_tokens,
            seed=[job.seed for job in jobs],
        )
    except FlywheelError as error:
        if len(jobs) == 1:
            one.answer.set_exception(error)
        else:
            for job in jobs:
                _answer([job])
    except Exception as error:
        for job in jobs:
            job.answer.set_exception(error)
    else:
        for job, answer in zip(jobs, answers, strict=True):
            job.answer.set_result(answer)
