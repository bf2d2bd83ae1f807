"""How the handling of one delivery ended. Failures are exceptions; these are the expected ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """What the broker is told."""

    ACK = "ack"
    NACK = "nack"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and the word under which it is counted.

    A nack means "I could not even record this, bring it again": it burns a delivery attempt. Work that failed after
    its failure was recorded is an ack; its next attempt stands in the database.
    """

    verdict: Verdict
    name: str


DONE = Outcome(Verdict.ACK, "done")
DUPLICATE = Outcome(Verdict.ACK, "duplicate")
NOTHING_DUE = Outcome(Verdict.ACK, "nothing_due")
RECORDED = Outcome(Verdict.ACK, "failure_recorded")
REFUSED = Outcome(Verdict.ACK, "refused")
UNAVAILABLE = Outcome(Verdict.NACK, "unavailable")
BUSY = Outcome(Verdict.NACK, "busy")
