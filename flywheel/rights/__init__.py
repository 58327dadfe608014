"""What may be made of a record, by its licence and by the consent that it was given under."""

from flywheel.rights.algebra import ALL, DUTIES, NONE, UNKNOWN, USES, Rights, together
from flywheel.rights.consents import Statement, rights_of_consent, statement_of
from flywheel.rights.licences import Terms, rights_of_licence

__all__ = [
    "ALL",
    "DUTIES",
    "NONE",
    "UNKNOWN",
    "USES",
    "Rights",
    "Statement",
    "Terms",
    "rights_of_consent",
    "rights_of_licence",
    "statement_of",
    "together",
]
