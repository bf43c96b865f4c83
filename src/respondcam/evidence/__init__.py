"""Is the map right: the account over many images."""

from respondcam.evidence.audit import (
    AuditSummary,
    Spread,
    SumToScore,
    kendall_tau,
    sum_to_score,
    summarise,
)

__all__ = ["AuditSummary", "Spread", "SumToScore", "kendall_tau", "sum_to_score", "summarise"]
