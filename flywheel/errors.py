"""Every error flywheel raises on purpose.

* FlywheelError
  * SettingsError          a setting, a command line or the machine does not permit the work
  * RecordError            a record breaks its own definition
    - ShapeError           two things that must line up do not
  * IngestError            a whole file cannot be taken in (bad lines are quarantined instead)
  * LakeError              a file of the lake is missing, torn or held by another writer
  * StoreError             an object store refuses, or is written by another home
    - StoreUnreachable     it does not answer now; the same call may succeed later
  * QualityError           a suite is wrong or a batch broke a rule that cannot name its rows
  * WarehouseError         a table is missing, empty or locked, or cannot be written out
  * ManifestError          a dataset or checkpoint on disk is not what its manifest says
  * TrainingError          a recipe cannot go on: settings that do not fit, a loss not finite
    - LaunchError          a process ended without its result
  * RolloutError           a server that samples refused, or answered what cannot be used
  * EvaluationError        there is nothing to evaluate, or a grader does not fit the prompt
  * PromotionError         a decision is not permitted
    - LedgerError          the ledger was edited, or entries of it are gone
  * ErasureError           what is to be erased is not known here, or cannot be taken out
  * ServeError             what was asked of the champion or said of its answers cannot be taken

A message says what was expected, what was found, where, and what to do next.
Catch `FlywheelError` at the edges (a Dagster asset, the command line), nowhere else.
"""


class FlywheelError(Exception):
    """Base class: catching it catches everything flywheel raises on purpose."""


class SettingsError(FlywheelError, ValueError):
    """A setting, a command line or the machine does not permit what was asked."""


class RecordError(FlywheelError, ValueError):
    """A record breaks its own definition, e.g. a comparison of a response with itself."""


class ShapeError(RecordError):
    """Two tensors, or two lists, that must line up do not."""


class IngestError(FlywheelError):
    """A whole file cannot be taken in: torn archive, unknown format, still being written."""


class LakeError(FlywheelError):
    """A file of the lake is missing, torn or held by another writer."""


class StoreError(FlywheelError):
    """An object store refuses what was asked, lacks it, or is written by another home."""


class StoreUnreachable(StoreError):
    """An object store does not answer now; nothing is lost, and it is tried again later."""


class QualityError(FlywheelError):
    """A suite is wrong, or a batch broke a rule that cannot name its rows."""


class WarehouseError(FlywheelError):
    """A table is missing, empty, locked by another writer, or cannot be written out."""


class ManifestError(FlywheelError):
    """A dataset or a checkpoint on disk is not what its manifest says it is."""


class TrainingError(FlywheelError):
    """A recipe cannot go on: settings that do not fit, a failed canary, a loss not finite."""


class LaunchError(TrainingError):
    """A training or evaluation process ended without writing its result."""


class RolloutError(FlywheelError):
    """A server that samples did not answer, refused, or answered what cannot be used."""


class EvaluationError(FlywheelError):
    """There is nothing to evaluate, or a grader does not fit its prompt."""


class PromotionError(FlywheelError):
    """A decision is not permitted."""


class LedgerError(PromotionError):
    """The ledger of decisions was edited, or entries of it are gone."""


class ServeError(FlywheelError):
    """What was asked of the champion, or said of its answers, cannot be taken."""


class LineageError(FlywheelError):
    """What is to be traced is not known here, or its name is that of several things."""


class ErasureError(FlywheelError):
    """What is to be erased is not known here, or a plan of an erasure cannot be read."""
