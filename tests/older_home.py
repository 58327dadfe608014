"""A home as a release left it that knew delivered files by their SHA-256."""

import hashlib
import json
from typing import Any

import pyarrow.parquet as pq
from blake3 import blake3

from flywheel.lake import write_table
from flywheel.layout import Layout


def make_older(layout: Layout, *contents: bytes) -> None:
    """Write manifests, index and plan anew; `contents` are all that they hold hashes of."""
    known = {blake3(one).hexdigest(): hashlib.sha256(one).hexdigest() for one in contents}

    def older(facts: dict[str, Any]) -> dict[str, Any]:
        sha256 = known[facts.pop("file_hash")]
        blanked = known.get(facts.pop("blanked_hash"), "")
        return facts | {"file_sha256": sha256, "blanked_sha256": blanked}

    for path in layout.batches.glob("b*.json"):
        path.write_text(json.dumps(older(json.loads(path.read_text()))))
    if (plan := layout.restricted / "erasure.json").exists():
        facts = json.loads(plan.read_text())
        facts["manifests"] = {name: older(one) for name, one in facts["manifests"].items()}
        facts["hashes"] = {name: known[one] for name, one in facts["hashes"].items()}
        plan.write_text(json.dumps(facts))
    if layout.fetched_index.exists():
        table = pq.read_table(layout.fetched_index)
        column = table.schema.get_field_index("hash")
        hashes = [known[one] for one in table["hash"].to_pylist()]
        write_table(table.set_column(column, "sha256", [hashes]), layout.fetched_index)
