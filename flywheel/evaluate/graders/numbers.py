"""The number that a text answers with.

An answer is marked by `####`, by a line that begins with `A:` or `Answer:`, by LaTeX's box or by
"the answer is"; the last mark counts, and the first number behind it. A text without a mark answers
with its last number. Numbers are compared as fractions: 1,200 and 1200.0, .5 and 1/2 are the same.
"""

import re
from fractions import Fraction

MARK = re.compile(
    r"####|^[ \t*]*(?:A|Answer)[*]*:|\\boxed\{|\bthe (?:final )?answer is\b", re.I | re.M
)
NUMBER = re.compile(
    r"(?:(?<![\d)])-[$€£]?)?"  # in 20-12 the minus is no sign
    r"(?:\d[\d,]*(?:\.\d+)?|(?<!\d)\.\d+)"
    r"(?:/\d+)?"
)


def is_marked(text: str) -> bool:
    """Whether a text says which part of it is the answer."""
    return MARK.search(text) is not None


def number_in(text: str) -> Fraction | None:
    """The number that a text answers with; None where there is none."""
    marks = list(MARK.finditer(text))
    if not marks:
        found = NUMBER.findall(text)
        return _value(found[-1]) if found else None
    first = NUMBER.search(text, marks[-1].end())
    return _value(first[0]) if first else None


def _value(text: str) -> Fraction | None:
    over, _, under = re.sub("[,$€£]", "", text).partition("/")
    if not under:
        return Fraction(over)
    return Fraction(over) / int(under) if int(under) else None
