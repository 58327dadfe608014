"""Links from assets to pages for people, which `flywheel ui` serves (`flywheel/pages.py`)."""

from pathlib import Path
from urllib.parse import quote

import dagster as dg

from assets.resources import PAGES
from flywheel.layout import Layout


def address_of(layout: Layout, page: Path) -> str:
    """Where a browser finds a page of a home."""
    return f"{PAGES}/{quote(page.relative_to(layout.root).as_posix())}"


def page_link(layout: Layout, page: Path) -> dg.UrlMetadataValue:
    """The same, as metadata of an asset."""
    return dg.MetadataValue.url(address_of(layout, page))
