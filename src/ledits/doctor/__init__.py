"""Whether a checkpoint does what it says: loaded, drawn with, inverted, edited, and its own claims put to the test.

Each check is a few network evaluations and ends in one sentence: "ok", "wrong" with what is wrong, or "can't tell".
Nothing here knows good pictures from bad ones; that is for who looks at the page.
"""

from ledits.doctor.checks import Check, Report, examine

__all__ = ["Check", "Report", "examine"]
