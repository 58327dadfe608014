"""What a crowd's labels say of each item, with every annotator weighed by the errors he makes.

*Plurality* counts heads. *One coin* gives an annotator one accuracy, whatever the class: enough
where classes are alike, and wrong where one of them is a tie, which it starves. *Dawid-Skene* gives
him a matrix of errors, which a handful of labels cannot fill; so each matrix is shrunk to that of
the whole crowd. How much decides on real crowds whether the model beats the plurality
(`python -m tests.benchmarks.labels_study`).

Labels come as three arrays of one length N, integer-coded: `item` in 0..I-1, `annotator` in
0..W-1, `label` in 0..K-1. Posteriors are [I, K]; errors are [W, K, K], truth by label, rows sum to
1. An item without a label has the prior.

Source: Dawid and Skene, "Maximum likelihood estimation of observer error-rates using the EM
algorithm", Applied Statistics 28 (1979); expectation maximisation from the shares of votes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.errors import ShapeError

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

STRENGTH = 10.0  # labels after which a matrix counts as much as the crowd's
LEAST = 1e-10  # of a probability whose logarithm is taken
ROUNDS = 100
TOLERANCE = 1e-5  # mean movement of a posterior below which rounds end


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a crowd's labels came to.

    Attributes:
        posterior: Probability of each class for each item [I, K].
        errors: Probability of each label given the truth, per annotator [W, K, K].
        pooled: The same for the whole crowd [K, K].
        prior: Share of each class [K].
        counts: Expected labels by truth and label that `errors` rest on [W, K, K].
        rounds: Rounds of expectation maximisation.
    """

    posterior: Floats
    errors: Floats
    pooled: Floats
    prior: Floats
    counts: Floats
    rounds: int


class Labels:
    """The arrays of labels, checked, and the sums that every estimator takes of them.

    Tables are held class by class, [K, I] and [K, W * K]: one long row a class is what numpy sums
    and exponentiates fast.
    """

    def __init__(
        self,
        item: npt.ArrayLike,
        annotator: npt.ArrayLike,
        label: npt.ArrayLike,
        classes: int,
        annotators: int = 0,  # at least; those without a label come last
    ) -> None:
        self.item, self.annotator, self.label = (_codes(one) for one in (item, annotator, label))
        if not len(self.item) == len(self.annotator) == len(self.label):
            raise ShapeError(
                f"`item`, `annotator` and `label` must be of one length, got {len(self.item)}, "
                f"{len(self.annotator)} and {len(self.label)}"
            )
        if int(self.label.max(initial=-1)) >= classes:
            raise ShapeError(
                f"label {self.label.max()} is none of {classes} classes; codes count from 0"
            )
        self.classes = classes
        self.sizes: Ints = np.bincount(self.item)  # labels of each item
        self.annotators = max(annotators, int(self.annotator.max(initial=-1)) + 1)
        self.said: Ints = self.annotator * classes + self.label  # place in annotator by label
        self.made: Floats = self._by_annotator(None)

    def _by_annotator(self, weights: Floats | None) -> Floats:
        """Labels, or their weights, of each kind that each annotator gave [W, K]."""
        width = self.annotators * self.classes
        return np.bincount(self.said, weights, width).reshape(-1, self.classes).astype(float)

    def votes(self) -> Floats:
        """Labels of each class for each item [K, I]."""
        width = len(self.sizes) * self.classes
        found = np.bincount(self.label * len(self.sizes) + self.item, minlength=width)
        return found.reshape(self.classes, -1).astype(float)

    def shares(self) -> Floats:
        """The share of each class among the labels of each item [K, I]; even where it has none."""
        votes = self.votes()
        return np.where(self.sizes > 0, votes / np.maximum(self.sizes, 1), 1 / self.classes)

    def expected(self, posterior: Floats) -> Floats:
        """Labels by annotator, truth and label [W, K, K], where the truth is as [K, I] says."""
        found = np.empty((self.annotators, self.classes, self.classes))
        rest = self.made.copy()
        for truth in range(self.classes - 1):
            found[:, truth] = self._by_annotator(posterior[truth].take(self.item))
            rest -= found[:, truth]
        found[:, -1] = np.maximum(rest, 0)  # what is left over is of the last class
        return found

    def log_odds(self, errors: Floats, prior: Floats) -> Floats:
        """Log-odds of each class but the last against the last, for each item [K - 1, I]."""
        table = log_ratios(errors)
        log_prior = np.log(np.maximum(prior, LEAST))
        odds = np.empty((self.classes - 1, len(self.sizes)))
        for truth, ratios in enumerate(table):
            odds[truth] = np.bincount(self.item, ratios.take(self.said), len(self.sizes))
            odds[truth] += log_prior[truth] - log_prior[-1]
        return odds


def log_ratios(errors: Floats) -> Floats:
    """What a label adds to the log-odds of each class against the last [K - 1, W * K]."""
    table = np.log(np.maximum(errors, LEAST)).transpose(1, 0, 2).reshape(errors.shape[1], -1)
    return np.asarray(table[:-1] - table[-1])


def probabilities(log_odds: Floats) -> Floats:
    """Log-odds against the last class [K - 1, ...] as probabilities of all K classes [K, ...]."""
    top = np.maximum(log_odds.max(axis=0, initial=0), 0)
    found = np.empty((len(log_odds) + 1, *log_odds.shape[1:]))
    np.exp(log_odds - top, out=found[:-1])
    np.exp(-top, out=found[-1])
    found /= found.sum(axis=0)
    return found


def plurality(item: npt.ArrayLike, label: npt.ArrayLike, classes: int) -> Ints:
    """The most frequent label of each item [I]; of those that share the top, the lowest class."""
    item = np.asarray(item)
    return np.argmax(Labels(item, np.zeros_like(item), label, classes).votes(), axis=0)


def dawid_skene(
    item: npt.ArrayLike,
    annotator: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    classes: int,
    strength: float = STRENGTH,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
) -> Crowd:
    """Find the matrices of errors under which the labels are most likely, and the posteriors.

    Args:
        item: Items [N].
        annotator: Annotators [N].
        label: Labels [N].
        classes: K.
        strength: Labels that the crowd's matrix counts for in an annotator's; 0 is the likeliest.
        rounds: At most.
        tolerance: Mean movement of a posterior below which rounds end.

    Raises:
        ShapeError: The arrays differ in length, or a label is no class.
    """
    labels = Labels(item, annotator, label, classes)
    posterior = labels.shares()
    done = 0
    while True:
        counts = labels.expected(posterior)
        pooled = shrunk(counts.sum(axis=0), np.full((classes, classes), 1 / classes), LEAST)
        errors = shrunk(counts, pooled, strength)
        prior = posterior.mean(axis=1)
        before, posterior = posterior, probabilities(labels.log_odds(errors, prior))
        done += 1
        if done == rounds or np.abs(posterior - before).mean() < tolerance:
            break
    return Crowd(np.ascontiguousarray(posterior.T), errors, pooled, prior, counts, done)


def one_coin(
    item: npt.ArrayLike,
    annotator: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    classes: int,
    strength: float = STRENGTH,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
) -> tuple[Floats, Floats]:
    """One accuracy per annotator, shrunk to the crowd's; all errors and all classes are alike.

    Returns:
        Posterior [I, K] and accuracy [W].

    Raises:
        ShapeError: The arrays differ in length, or a label is no class.
    """
    labels = Labels(item, annotator, label, classes)
    posterior = labels.shares()
    size = posterior.shape
    place = labels.label * size[1] + labels.item
    made = labels.made.sum(axis=1)
    accuracy = np.zeros(labels.annotators)
    for _ in range(rounds):
        right = np.bincount(labels.annotator, posterior.ravel().take(place), labels.annotators)
        crowd = right.sum() / max(1.0, made.sum())
        accuracy = (right + strength * crowd) / np.maximum(made + strength, LEAST)
        sure = np.clip(accuracy, LEAST, 1 - LEAST)
        gained = np.log(sure * (classes - 1) / (1 - sure)).take(labels.annotator)
        gained = np.bincount(place, gained, posterior.size).reshape(size)
        before, posterior = posterior, probabilities(gained[:-1] - gained[-1])
        if np.abs(posterior - before).mean() < tolerance:
            break
    return np.ascontiguousarray(posterior.T), accuracy


def shrunk(counts: Floats, towards: Floats, strength: float) -> Floats:
    """Rows of counts as shares, as if `strength` more labels were spread as `towards` is."""
    made = counts.sum(axis=-1, keepdims=True)
    return np.asarray((counts + max(strength, LEAST) * towards) / (made + max(strength, LEAST)))


def _codes(values: npt.ArrayLike) -> Ints:
    found = np.ascontiguousarray(values, dtype=np.intp)
    if int(found.min(initial=0)) < 0:
        raise ShapeError(f"codes count from 0, found {found.min()}")
    return found
