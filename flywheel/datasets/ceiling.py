"""How often annotators themselves side with the weighted vote of the others on a pair.

No reward model that is held against such votes can be asked for more, so this share stands beside
its accuracy. The votes were set against each other when labels were weighed (flywheel/labels); a
pair with a single vote, or whose other votes decide for no side, says nothing.
"""

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

TESTED, RIGHT = "tested_votes", "tested_votes_right"


def annotator_ceiling(dataset: Path, split: str) -> tuple[float | None, int]:
    """Share of the tested votes of a split that side with the others, and how many there are.

    None where there are none, as in a dataset that was frozen before votes were tested.
    """
    path = dataset / f"{split}.parquet"
    if not path.exists() or TESTED not in pq.read_schema(path).names:
        return None, 0
    table = pq.read_table(path, columns=[TESTED, RIGHT])
    tested, right = (int(pc.sum(table[name]).as_py() or 0) for name in (TESTED, RIGHT))
    return (right / tested if tested else None), tested
