"""The durable truth: jobs, attempts, events, outputs, engine leases."""

from comfy_mcp.store.database import StoreInfo
from comfy_mcp.store.leases import BRIDGES
from comfy_mcp.store.queries import (
    AttemptView,
    Chooser,
    Claim,
    ClaimOffer,
    JobGraph,
    JobQuery,
    JobView,
    Lease,
    LeaseState,
    OutputQuery,
    QueueView,
    Submission,
)
from comfy_mcp.store.store import Store

__all__ = [
    "BRIDGES",
    "AttemptView",
    "Chooser",
    "Claim",
    "ClaimOffer",
    "JobGraph",
    "JobQuery",
    "JobView",
    "Lease",
    "LeaseState",
    "OutputQuery",
    "QueueView",
    "Store",
    "StoreInfo",
    "Submission",
]
