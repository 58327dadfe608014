"""Taking out what people asked to have taken out, everywhere, and served logs after their time."""

from flywheel.erasure.retention import forget_served
from flywheel.erasure.run import erase, finish_pending, look_for, pending

__all__ = ["erase", "finish_pending", "forget_served", "look_for", "pending"]
