"""Statements on one connection to PostgreSQL: prepared once, and what needs no answer is sent with the next
one that does.

psycopg's cursor takes three times as long for a statement, and waits for each answer; of the statements of a
job a third bring nothing that anybody looks at. Here libpq's pipeline is used, through `psycopg.pq`.
"""

import itertools
import re
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

KEPT = 256
"""Prepared statements of a connection. Lists of every length are a statement each."""

_PARAMETER = re.compile(r"%\((\w+)\)s|%%")
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Prepared:
    name: bytes
    parameters: tuple[str, ...]


class Statements:
    """One thread at a time may use it. While nothing waits for an answer, psycopg may use the connection
    too."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        connection.prepare_threshold = None  # those of ours are given up without its knowledge
        self.connection = connection
        self._pg = connection.pgconn
        self._rows = Transformer.from_context(connection)
        self._known: dict[str, _Prepared] = {}
        self._numbers = itertools.count(1)
        self._waiting = False
        """Something waits to be sent, or for its answer."""
        self._synced = False
        """All of it was sent."""
        self._new: list[str] = []
        """What of it is prepared for the first time."""
        self._answers = select.poll()
        self._answers.register(self._pg.socket, select.POLLIN)
        self._room = select.poll()
        self._room.register(self._pg.socket, select.POLLIN | select.POLLOUT)

    def run(self, text: str, values: Values = {}) -> PGresult:  # noqa: B006 - never changed
        """The answer to a statement, after all that were to be sent before it. Raises the first error of
        these, and then nothing after it was run."""
        self.send(text, values)
        return self.answers()[-1]

    def send(self, text: str, values: Values = {}) -> None:  # noqa: B006
        """With the next one that is run. What it raises is raised there."""
        known = self._known.get(text)
        names = {} if known else _parameters(text)
        given = [_dumped(values[name]) for name in (known.parameters if known else names)]
        if not self._waiting:
            self._pg.enter_pipeline_mode()
            self._waiting = True
        if known is None:
            known = self._known[text] = _Prepared(b"s%d" % next(self._numbers), tuple(names))
            self._new.append(text)
            sql = _PARAMETER.sub(lambda found: f"${names[found[1]]}" if found[1] else "%", text)
            self._pg.send_prepare(known.name, sql.encode())
        self._pg.send_query_prepared(known.name, given)

    def answers(self) -> Sequence[PGresult]:
        """To all that were sent, as `run`."""
        if not self._waiting:
            return []
        try:
            if not self._synced:
                self.sync()
            answers, failed = self._received()
            self._pg.exit_pipeline_mode()
        except BaseException:
            self.connection.close()  # what it answers next belongs to nobody
            raise
        self._waiting, self._synced, new, self._new = False, False, self._new, []
        if failed is not None:
            for text in new:  # perhaps they were not reached
                del self._known[text]
            raise error_from_result(failed)
        return answers

    def sync(self) -> None:
        """Send everything; the answers are for later."""
        self._synced = True
        self._pg.pipeline_sync()
        while self._pg.flush():
            for _, event in self._room.poll():
                if event & ~select.POLLOUT:
                    self._pg.consume_input()

    def _received(self) -> tuple[list[PGresult], PGresult | None]:
        """Up to the mark that follows what was sent, and the first error among it."""
        answers: list[PGresult] = []
        failed = None
        while True:
            answer = self._next()
            if answer is None:  # between the answers of two statements
                if self._pg.status == ConnStatus.BAD:
                    raise psycopg.OperationalError(self._pg.get_error_message())
            elif answer.status == ExecStatus.PIPELINE_SYNC:
                return answers, failed
            elif answer.status in _FAILED:
                failed = failed or answer
            else:
                answers.append(answer)

    def _next(self) -> PGresult | None:
        while self._pg.is_busy():
            self._answers.poll()
            self._pg.consume_input()
        return self._pg.get_result()

    def forget(self) -> None:
        """Give up what was prepared, if it is too much. Between two transactions."""
        if len(self._known) > KEPT:
            self._known.clear()
            self.connection.execute("DEALLOCATE ALL")

    @property
    def was_told(self) -> bool:
        """The server has said something unasked: mostly, that it goes."""
        return bool(self._answers.poll(0))

    def rows(self, answer: PGresult, make: Any) -> list[Any]:
        self._rows.set_pgresult(answer)
        return self._rows.load_rows(0, answer.ntuples, make)


def columns(answer: PGresult) -> list[tuple[str]]:
    return [((answer.fname(number) or b"").decode(),) for number in range(answer.nfields)]


def _parameters(text: str) -> dict[str, int]:
    """Their numbers, by name."""
    return {
        name: at for at, name in enumerate(dict.fromkeys(filter(None, _PARAMETER.findall(text))), start=1)
    }


def _dumped(value: Any) -> bytes | None:
    """As text, whose type the server takes from the column."""
    if value is None:
        return None
    if isinstance(value, bool):
        return b"t" if value else b"f"
    data = str(value).encode()
    if b"\0" in data:
        raise psycopg.DataError("PostgreSQL text can't contain NUL (0x00) bytes")
    return data
