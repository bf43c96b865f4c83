"""Is the map right: accounts over data sets, faithfulness, localisation, sanity, comparison."""

from respondcam.evidence.audit import (
    AuditSummary,
    Spread,
    SumToScore,
    kendall_tau,
    sum_to_score,
    summarise,
)
from respondcam.evidence.audit_classes import ClassAudit, audit_classes
from respondcam.evidence.combined import Composite, composite
from respondcam.evidence.comparison import Compared, Result, compare
from respondcam.evidence.faithfulness import (
    Changing,
    Curve,
    deletion,
    insertion,
    masked_scores,
    road,
)
from respondcam.evidence.intervals import Interval, bootstrap, paired
from respondcam.evidence.locating import Located, locate, pooled_counts
from respondcam.evidence.sanity import class_sensitivity, randomised, stability
from respondcam.evidence.scoring import Scorer
from respondcam.evidence.se3d import Se3d, se3d_figures

__all__ = [
    "AuditSummary",
    "Changing",
    "ClassAudit",
    "Compared",
    "Composite",
    "Curve",
    "Interval",
    "Located",
    "Result",
    "Scorer",
    "Se3d",
    "Spread",
    "SumToScore",
    "audit_classes",
    "bootstrap",
    "class_sensitivity",
    "compare",
    "composite",
    "deletion",
    "insertion",
    "kendall_tau",
    "locate",
    "masked_scores",
    "paired",
    "pooled_counts",
    "randomised",
    "road",
    "se3d_figures",
    "stability",
    "sum_to_score",
    "summarise",
]
