"""Where everything lies on disk: one root, and a path for each thing as a function of its name.

Steps exchange addresses, not objects, so this module is the whole storage contract. It only
names paths; it creates and reads nothing.
"""

from dataclasses import dataclass
from pathlib import Path

TITLE_MARK = "CHAMPION"  # file in a checkpoint's folder: it holds or held the title


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one root folder (`var/` by default)."""

    root: Path

    # ---- what comes in, and what was said ------------------------------------------------
    @property
    def inbox(self) -> Path:
        """Files as delivered; whatever lies here is landed and then left alone."""
        return self.root / "inbox"

    @property
    def fetched(self) -> Path:
        """Objects of inboxes in object stores until they have landed: `<address>/<key>`."""
        return self.root / "fetched"

    @property
    def fetched_index(self) -> Path:
        """What was fetched from object stores, one row an object, so that it is fetched once."""
        return self.lake / "fetched.parquet"

    @property
    def store(self) -> Path:
        """What this home knows of the durable copy of its lake in an object store."""
        return self.root / "store"

    @property
    def lake(self) -> Path:
        """All Parquet that dbt reads: landing, quarantine, raw sources, derived marks."""
        return self.root / "lake"

    def landing(self, kind: str) -> Path:
        """Folder of one kind of record: `<batch_id>.parquet` per landed batch."""
        return self.lake / "landing" / kind

    @property
    def batches(self) -> Path:
        """Folder of batch manifests, `<batch_id>.json`, written last: the commit of a batch."""
        return self.lake / "batches"

    @property
    def quarantine(self) -> Path:
        """Folder of quarantined lines and rows, `<batch_id>.parquet` per batch."""
        return self.lake / "quarantine"

    @property
    def erased(self) -> Path:
        """Folder of the names of erased records, `<erasure>.parquet`, without what they said."""
        return self.lake / "erased"

    def raw(self, source: str) -> Path:
        """Folder of a table in no known format, landed untouched as a raw source."""
        return self.lake / "raw" / source

    def derived(self, name: str) -> Path:
        """One Parquet file of inferred marks, e.g. `duplicates`; rebuildable at any time."""
        return self.lake / "derived" / f"{name}.parquet"

    def lineage(self, name: str) -> Path:
        """Folder of edges between records and datasets, or checkpoints: one file of each."""
        return self.lake / "derived" / "lineage" / name

    @property
    def text_index(self) -> Path:
        """What is remembered of texts that were compared or screened; rebuildable at any time."""
        return self.root / "text_index"

    def seen_events(self, kind: str) -> Path:
        """Folder of the hashes of one kind's events that landed; rebuildable at any time."""
        return self.root / "seen_events" / kind

    @property
    def restricted(self) -> Path:
        """What redaction took out, and the key of its pseudonyms; for the owner's eyes alone."""
        return self.root / "restricted"

    # ---- the warehouse --------------------------------------------------------------------
    @property
    def warehouse(self) -> Path:
        """The DuckDB file that dbt owns. Nobody else opens it."""
        return self.root / "warehouse" / "warehouse.duckdb"

    @property
    def warehouse_copy(self) -> Path:
        """The read copy for everybody else; same file name, because views store it."""
        return self.root / "read" / "warehouse.duckdb"

    @property
    def dbt_target(self) -> Path:
        """What dbt compiled and parsed last; rebuildable at any time."""
        return self.root / "warehouse" / "target"

    # ---- artifacts ------------------------------------------------------------------------
    @property
    def artifacts(self) -> Path:
        """Everything immutable that a generation made."""
        return self.root / "artifacts"

    def dataset(self, name: str, generation: str) -> Path:
        """Folder of one frozen dataset: `<split>.parquet` and `manifest.json`."""
        return self.artifacts / "datasets" / name / generation

    def checkpoint(self, kind: str, checkpoint_id: str) -> Path:
        """Folder of one published checkpoint: Hugging Face files and `manifest.json`."""
        return self.artifacts / "checkpoints" / kind / checkpoint_id

    @property
    def references(self) -> Path:
        """Folder of what references say of rows, `<hash>.parquet`; computed again where lost."""
        return self.artifacts / "references"

    @property
    def runs(self) -> Path:
        """Folders of runs, `<name>/<generation>`."""
        return self.artifacts / "runs"

    def run(self, name: str, generation: str) -> Path:
        """Folder of one process run: config.json, metrics.jsonl, state/, result.json."""
        return self.runs / name / generation

    def evaluation(self, generation: str) -> Path:
        """Folder of one generation's evaluation: result.json, samples.parquet, report.html, and
        `measurements/` and `outcomes/`, a file for each time it was evaluated."""
        return self.artifacts / "evaluations" / generation

    @property
    def evaluation_sets(self) -> Path:
        """Frozen evaluation sets, `<name>/v<version>/`: `test.parquet` and `manifest.json`."""
        return self.artifacts / "evaluation_sets"

    # ---- decisions ------------------------------------------------------------------------
    @property
    def registry(self) -> Path:
        """The ledger of decisions and the champion pointer."""
        return self.root / "registry"

    @property
    def annotation_queue(self) -> Path:
        """What should be judged next, `<generation>.jsonl`."""
        return self.root / "annotation_queue"

    # ---- what was answered ----------------------------------------------------------------
    @property
    def served(self) -> Path:
        """What the champion answered: `<date>-<pid>.jsonl`, a line an answer, and feedback/."""
        return self.root / "served"

    @property
    def docs(self) -> Path:
        """Generated pages: Great Expectations Data Docs, reports."""
        return self.root / "docs"

    def card(self, kind: str, checkpoint_id: str) -> Path:
        """The model card of a checkpoint; not in its folder, because it says what came of it."""
        return self.artifacts / "cards" / f"{kind}-{checkpoint_id}.md"

    @property
    def label_quality(self) -> Path:
        """The page about annotators and their labels; written anew by each build."""
        return self.docs / "label_quality.html"

    @property
    def dbt_docs(self) -> Path:
        """dbt's pages of the warehouse, one file."""
        return self.docs / "dbt" / "index.html"

    @property
    def tensorboard(self) -> Path:
        """Training curves as TensorBoard reads them, `<generation>/<name>`; rebuildable."""
        return self.root / "tensorboard"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own storage."""
        return self.root / "dagster"

    @property
    def turn_result(self) -> Path:
        """What the last turn of the wheel came to, as JSON."""
        return self.root / "turn.json"
