"""What a job at a service may cost, and what it has cost: amounts in millionths of the currency in which the
settings name the price of an hour."""

from dataclasses import dataclass, replace

MILLION = 1_000_000
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Of one job. `reserved` is held back from the day's `budget` until the job has ended; None: there is no
    budget. `ran_ms`: its runs that have ended, all together. `over`: the job has ended."""

    per_hour: int
    reserved: int = 0
    budget: int | None = None
    ran_ms: int = 0
    over: bool = False

    @property
    def cost(self) -> int:
        """Of the runs that have ended, rounded up."""
        return -(-self.per_hour * self.ran_ms // HOUR_MS)

    @property
    def counted(self) -> int:
        """What counts against the budget."""
        return self.cost if self.over else max(self.reserved, self.cost)

    def after_run(self, ran_ms: int, *, over: bool) -> "Spend":
        """A run has ended; `over`: the job has, too."""
        return replace(self, ran_ms=self.ran_ms + max(0, ran_ms), over=over)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the settings say: the price of an hour, and the most for a day and for one job."""

    per_hour: int
    day: int | None = None
    job: int | None = None

    def spend(self, run_timeout_ms: int | None) -> tuple[Spend, int | None]:
        """For a new job, and its run timeout: it runs no longer than what is reserved pays for."""
        if self.day is None:
            return Spend(per_hour=self.per_hour), run_timeout_ms
        most = self.day if self.job is None else min(self.job, self.day)
        longest_ms = max(1, most * HOUR_MS // self.per_hour)
        ran_ms = longest_ms if run_timeout_ms is None else min(run_timeout_ms, longest_ms)
        reserved = min(most, Spend(per_hour=self.per_hour, ran_ms=ran_ms).cost)
        return Spend(per_hour=self.per_hour, reserved=reserved, budget=self.day), ran_ms


def millionths(amount: float) -> int:
    return round(amount * MILLION)
