"""The sample world of `make run`: a refund desk, its writers, simulated annotators, hidden gold.

Nobody here is a person: writers, demonstrators and annotators are programs, and every record says
so (`annotator_kind` 'program', metadata `simulated`). The world is a function of one seed.
"""

from flywheel.sample.answers import answer_queue, answer_queues
from flywheel.sample.deliver import Delivery, corpus_path, deliver

__all__ = ["Delivery", "answer_queue", "answer_queues", "corpus_path", "deliver"]
