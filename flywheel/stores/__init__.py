"""Object stores: inboxes whose objects land like files, and the durable copy of the lake."""

from flywheel.stores.inbox import Landed, land_all, new_objects
from flywheel.stores.restore import Restored, restore
from flywheel.stores.settings import StorageSettings, is_address
from flywheel.stores.upload import Uploaded, store_facts, upload
from flywheel.stores.writer import check_writer

__all__ = [
    "Landed",
    "Restored",
    "StorageSettings",
    "Uploaded",
    "check_writer",
    "is_address",
    "land_all",
    "new_objects",
    "restore",
    "store_facts",
    "upload",
]
