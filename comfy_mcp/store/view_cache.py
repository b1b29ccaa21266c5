"""Cache of job views: of jobs that clients poll while nothing happens, and of those just written here."""

from collections.abc import Sequence

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.events import JobQueued, StoredEvent
from comfy_mcp.domain.ids import JobId, OutputId
from comfy_mcp.store.codec import is_storable
from comfy_mcp.store.queries import JobView

KEPT = 64
"""Jobs remembered at once."""


class ViewCache:
    """`version` is the database's data version, read *before* the view: a view is at least as new as that, so
    while the version is the same nobody else has committed since. -1 is no version. What this process commits
    on the loop changes no version: `committed` says what it was."""

    def __init__(self) -> None:
        self._version = -1
        self._views: dict[JobId, JobView] = {}
        self._outputs: dict[OutputId, Output] = {}

    def get(self, job_id: JobId, version: int) -> JobView | None:
        self._note(version)
        return self._views.get(job_id)

    def output(self, output_id: OutputId, version: int) -> Output | None:
        """Of a job whose view is kept."""
        self._note(version)
        return self._outputs.get(output_id)

    def put(self, view: JobView, version: int) -> None:
        """Kept only if no newer version has been asked about meanwhile. Nothing was committed here since the
        view was read."""
        if version != self._version or version == -1:
            return
        if len(self._views) >= KEPT:
            self._clear()
        self._drop(view.job.id)
        self._views[view.job.id] = view
        self._outputs.update({output.id: output for output in view.outputs})

    def written(self, view: JobView) -> None:
        """A commit on the loop has just made it so. A later `get` finds it if nobody else commits until then.

        Left out where the database changes a text, so that a view is the same wherever it comes from.
        """
        texts = [view.job.client, view.job.cancel_reason, view.job.cancelled_by]
        for output in view.outputs:
            file = output.file
            texts += [file.filename, file.subfolder, file.folder_type, file.node, file.text]
        if is_storable("".join(filter(None, texts))):
            self.put(view, self._version)

    def committed(self, appended: Sequence[StoredEvent]) -> None:
        """A commit of this process. It may have changed the jobs of its events, and every place in the queue.

        What changes a view without an event is written by the thread, and so changes the version.
        """
        for stored in appended:
            self._drop(stored.event.job_id)
            if isinstance(stored.event, JobQueued) and stored.event.retry_of is not None:
                self._drop(stored.event.retry_of)
        if appended:
            for job_id in [job_id for job_id, view in self._views.items() if view.position is not None]:
                self._drop(job_id)

    def _note(self, version: int) -> None:
        if version != self._version:
            self._version = version
            self._clear()

    def _clear(self) -> None:
        self._views.clear()
        self._outputs.clear()

    def _drop(self, job_id: JobId) -> None:
        view = self._views.pop(job_id, None)
        for output in view.outputs if view is not None else ():
            self._outputs.pop(output.id, None)
