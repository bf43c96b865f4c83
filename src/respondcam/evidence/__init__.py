"""Is the map right: accounts over data sets, localisation, faithfulness, sanity, comparison."""

from respondcam.evidence.audit import (
    AuditSummary,
    Spread,
    SumToScore,
    kendall_tau,
    sum_to_score,
    summarise,
)
from respondcam.evidence.audit_classes import ClassAudit, audit_classes
from respondcam.evidence.bootstrap import Interval, bootstrap, paired
from respondcam.evidence.locating import Located, locate, pooled_counts
from respondcam.evidence.se3d import Se3d, se3d_figures

__all__ = [
    "AuditSummary",
    "ClassAudit",
    "Interval",
    "Located",
    "Se3d",
    "Spread",
    "SumToScore",
    "audit_classes",
    "bootstrap",
    "kendall_tau",
    "locate",
    "paired",
    "pooled_counts",
    "se3d_figures",
    "sum_to_score",
    "summarise",
]
