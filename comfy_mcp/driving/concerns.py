"""Which engines of this process it matters to that a job has ended: of a thousand it is one, or none."""

from collections.abc import Collection

from comfy_mcp.domain.ids import EngineId, JobId


class Concerns:
    """`left`: engines that left jobs to others, for now; each end matters to them."""

    def __init__(self) -> None:
        self.left: set[EngineId] = set()
        self._followed: dict[JobId, set[EngineId]] = {}

    def follow(self, engine: EngineId, job_id: JobId) -> None:
        """The engine has a prompt of the job."""
        self._followed.setdefault(job_id, set()).add(engine)

    def unfollow(self, engine: EngineId, job_id: JobId) -> None:
        engines = self._followed.get(job_id, set())
        engines.discard(engine)
        if not engines:
            self._followed.pop(job_id, None)

    def by_end_of(self, job_id: JobId) -> Collection[EngineId]:
        return self.left | self._followed.get(job_id, set())

    def forget(self, engine: EngineId) -> None:
        """Nobody drives it here any more."""
        self.left.discard(engine)
        for job_id in list(self._followed):
            self.unfollow(engine, job_id)
