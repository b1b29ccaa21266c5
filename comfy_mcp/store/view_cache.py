"""Cache of job views, valid until any process commits."""

from comfy_mcp.domain.ids import JobId
from comfy_mcp.store.queries import JobView

KEPT = 64
"""Jobs remembered at once: those that clients poll while nothing happens."""


class ViewCache:
    """`version` is the database's data version, read *before* the view: a view is at least as new as that, so
    while the version is still the same nothing has changed since. -1 is no version."""

    def __init__(self) -> None:
        self._version = -1
        self._views: dict[JobId, JobView] = {}

    def get(self, job_id: JobId, version: int) -> JobView | None:
        if version != self._version:
            self._version = version
            self._views.clear()
        return self._views.get(job_id)

    def put(self, view: JobView, version: int) -> None:
        """Kept only if no newer version has been asked about meanwhile."""
        if version != self._version or version == -1:
            return
        if len(self._views) >= KEPT:
            self._views.clear()
        self._views[view.job.id] = view
