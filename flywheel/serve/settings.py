"""`[serve]` in settings.toml: how the champion is served, and what a challenger goes through."""

from dataclasses import dataclass, field

from flywheel.errors import SettingsError
from flywheel.promotion.stages import STAGES

FORBIDDEN = ("tell", "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What callers may ask, what is kept of it, and what a stage must show.

    Attributes:
        stages: Of a promoted challenger before it takes the title: "shadow", "canary", both in
            this order, or none: then it takes the title at once.
        level: Chance that a stage ever stops a challenger that is no worse, and that it ever lets
            one pass that is worse by `margin`.
        margin: Of a win rate of a half: who is shown to be above a half less this passes.
        least_users: Fewer users decide nothing.
        per_user: A user's first so many comparisons are his one outcome; the rest counts for
            nothing, so that no user outweighs another.
        canary_share: Share of the users whom a canary answers.
        poll_seconds: The server looks this often at who the champion is.
        most_tokens: Of an answer, where the caller asks for no fewer.
        most_body_bytes: Of a request.
        most_waiting: Requests; beyond, callers are told to come again.
        feedback_per_day: Of one author; beyond, he is told to come again.
        deliver_seconds: Feedback goes to the inbox this often.
        keep_days: A line of the served log, and feedback, is removed after so many days, or, where
            the statistic of a running stage counts it, once that stage is over; 0 keeps them.
        keep_days_without_consent: The same of lines whose caller said store: false, which hold
            numbers alone.
        forbidden: What becomes of a champion whose data may not be used any more, by licences,
            consents and erasures of today: "tell" answers on and says so, "refuse" answers no more,
            nor before that was looked at.
        store_by_default: Whether answers are kept where the caller says nothing of `store`.
        backend_url: Of an OpenAI-compatible server that has the champion loaded under its content
            hash as name; empty samples in this process.
        backend_text_only: That server tells no token ids.
    """

    stages: list = field(default_factory=list)  # type: ignore[type-arg]  # checked below
    level: float = 0.05
    margin: float = 0.05
    least_users: int = 30
    per_user: int = 1
    canary_share: float = 0.1
    poll_seconds: float = 1.0
    most_tokens: int = 256
    most_body_bytes: int = 1_000_000
    most_waiting: int = 256
    feedback_per_day: int = 200
    deliver_seconds: float = 60.0
    keep_days: int = 0
    keep_days_without_consent: int = 0
    forbidden: str = "tell"
    store_by_default: bool = True
    backend_url: str = ""
    backend_text_only: bool = False

    def __post_init__(self) -> None:
        if self.stages != [one for one in STAGES if one in self.stages]:
            raise SettingsError(
                f"[serve] stages may be {list(STAGES)}, or some of them in this order; got "
                f"{self.stages}"
            )
        for name, low, high in (
            ("level", 0, 1),
            ("margin", 0, 0.5),
            ("canary_share", 0, 1),
        ):
            if not low < getattr(self, name) < high:
                raise SettingsError(
                    f"[serve] {name} must lie between {low} and {high}, got {getattr(self, name)}"
                )
        for name in ("poll_seconds", "deliver_seconds"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"[serve] {name} must be above 0, got {getattr(self, name)}")
        if self.forbidden not in FORBIDDEN:
            raise SettingsError(
                f"[serve] forbidden must be one of {', '.join(FORBIDDEN)}, got {self.forbidden!r}"
            )
        for name in ("keep_days", "keep_days_without_consent"):
            if getattr(self, name) < 0:
                raise SettingsError(f"[serve] {name} must be 0 or more, got {getattr(self, name)}")
        for name in (
            "least_users",
            "per_user",
            "most_tokens",
            "most_body_bytes",
            "most_waiting",
            "feedback_per_day",
        ):
            if getattr(self, name) < 1:
                raise SettingsError(f"[serve] {name} must be at least 1, got {getattr(self, name)}")
