"""Whether an annotator leans to the longer response, whatever it is worth.

Not to be had from how often he takes the longer side: where longer responses are better, everybody
should. So errors are told apart by their direction: how often he takes the longer where the shorter
is better, and the other way round, each truth being what the whole crowd's votes make of it with
errors free to differ between the two (`dawid_skene.py`). The bias is half the difference, between
-.5 (always the shorter) and .5 (always the longer). What all annotators share cannot be seen: it
looks like the truth.
"""

import numpy as np

from flywheel.labels.agreement import Z
from flywheel.labels.dawid_skene import STRENGTH, Floats, Ints, dawid_skene
from flywheel.labels.habits import TIE

LEAST_VOTES = 10  # on pairs that others judged too; a bias of fewer is noise


def length_bias(pair: Ints, annotator: Ints, vote: Ints, longer: Ints, annotators: int) -> Floats:
    """Bias of each annotator with its 95 % interval [3, W]; NaN where he has too few votes.

    Args:
        pair: Pairs [N].
        annotator: Annotators, 0..W-1 [N].
        vote: A, B or TIE [N].
        longer: Which response is the longer, A or B, -1 for neither [N].
        annotators: W.
    """
    used = (vote != TIE) & (longer >= 0)
    used &= np.bincount(pair[used], minlength=int(pair.max(initial=-1)) + 1)[pair] > 1
    found = np.full((3, annotators), np.nan)
    if not used.any():
        return found
    item = np.unique(pair[used], return_inverse=True)[1]
    crowd = dawid_skene(item, annotator[used], (vote != longer)[used], classes=2, strength=STRENGTH)
    took_longer = crowd.errors[:, 1, 0]  # where the shorter is better
    took_shorter = crowd.errors[:, 0, 1]
    made = crowd.counts.sum(axis=2)
    spread = sum(
        share * (1 - share) / (count + STRENGTH)
        for share, count in ((took_longer, made[:, 1]), (took_shorter, made[:, 0]))
    )
    bias, half = (took_longer - took_shorter) / 2, Z * np.sqrt(spread) / 2
    known = np.flatnonzero(made.sum(axis=1) >= LEAST_VOTES)
    found[:, known] = np.array([bias, bias - half, bias + half])[:, known]
    return found
