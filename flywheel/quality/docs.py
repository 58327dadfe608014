"""Data Docs: the pages of Great Expectations, for the suites and the newest batches' results.

They are for people to look at and decide nothing: where they cannot be built, landing goes on
and the page says why. A page shows rules, counts and the places of the rows that broke a rule
in their table; what those rows hold is somebody's and stays in quarantine.
"""

import contextlib
import html
import shutil
from pathlib import Path
from typing import Any

from flywheel.layout import Layout
from flywheel.quality.gate import DEFAULT, context, judged, validation
from flywheel.quality.suites import OWN

SITE = "flywheel"
SHOWN = 50  # newest results; a page takes a twentieth of a second
COUNTS = {  # of a result, all that a page may know
    *("element_count", "missing_count", "missing_percent", "unexpected_count"),
    *("unexpected_percent", "unexpected_percent_total", "unexpected_percent_nonmissing"),
    *("unexpected_index_list", "partial_unexpected_index_list"),
}
_built: dict[Path, int] = {}  # by folder, the number of judgements its pages show


def build_data_docs(layout: Layout) -> Path:
    """Build the pages for what this process has judged and return the index; never raises.

    Where nothing was judged since the last time, the pages stay as they are.
    """
    folder = layout.docs.absolute() / "great_expectations"
    index = folder / "index.html"
    if index.exists() and _built.get(folder, 0) == len(judged):
        return index
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _build(context(), folder)
        _built[folder] = len(judged)
    except Exception as error:
        with contextlib.suppress(OSError):
            told = html.escape(f"{type(error).__name__}: {error}")
            index.write_text(f"<h1>Data Docs could not be built</h1><pre>{told}</pre>")
    return index


def _build(made: Any, folder: Path) -> None:
    if SITE in made.variables.data_docs_sites:
        made.delete_data_docs_site(site_name=SITE)  # it may be another home's
    made.add_data_docs_site(
        site_name=SITE,
        site_config={
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder),
            },
        },
    )
    for kind in OWN:
        validation(kind, judged[-1] if judged else DEFAULT)
    shown, kept = made.validation_results_store, _kept(folder)
    for key in shown.list_keys():
        judgement = shown.get(key)
        for one in judgement.results:
            one.result = {name: one.result[name] for name in one.result.keys() & COUNTS}
        kept.set(key, judgement)
        shown.remove_key(key)
    keys = sorted(kept.list_keys(), key=lambda one: one.run_id.run_time)
    for key in keys[:-SHOWN]:
        kept.remove_key(key)
    for key in keys[-SHOWN:]:
        shown.set(key, kept.get(key))
    shutil.rmtree(folder / "validations", ignore_errors=True)  # pages that no index names
    made.build_data_docs(site_names=[SITE])
    for key in keys[-SHOWN:]:
        shown.remove_key(key)  # the next landing of this process may be another home's


def _kept(folder: Path) -> Any:
    """The results that pages are made of, kept from one process to the next."""
    from great_expectations.data_context.store.validation_results_store import (
        ValidationResultsStore,
    )

    return ValidationResultsStore(
        store_name="kept",
        store_backend={
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder.with_name("results")),
            "filepath_suffix": ".json",
        },
    )
