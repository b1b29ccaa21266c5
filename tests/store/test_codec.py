import dataclasses
import typing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, NullPool, create_engine, insert, select

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.events import JobEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.store import schema
from comfy_mcp.store.codec import (
    Texts,
    event_values,
    graph_of,
    job_of,
    job_values,
    storable,
    stored_event_of,
)
from comfy_mcp.store.output_codec import output_of, output_values

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates and NUL too
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
FLOAT = st.floats(allow_nan=False, allow_infinity=False)


def built(cls: type[Any], text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Any value of a domain dataclass, with `text` for every string."""
    hints = typing.get_type_hints(cls)
    hints.pop("type", None)
    return st.builds(cls, **{name: _of(hint, text) for name, hint in hints.items()})


def _of(hint: Any, text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    if hint is JobId:
        return TEXT
    if isinstance(hint, typing.NewType):
        return text
    if hint is str:
        return text
    if hint is float:
        return FLOAT
    if hint is int:
        return INT64
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return built(hint, text)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and arguments[-1] is not ...:
        return st.tuples(*[_of(each, text) for each in arguments])
    if typing.get_origin(hint) is tuple:
        return st.lists(_of(arguments[0], text), max_size=3).map(tuple)
    if arguments:  # X | None
        return st.one_of(*[st.none() if one is type(None) else _of(one, text) for one in arguments])
    return st.from_type(hint)


EVENTS = st.one_of(*[built(cls, ANY_TEXT) for cls in typing.get_args(JobEvent)])


def through_database(table: Any, values: dict[str, Any]) -> Any:
    engine = create_engine("sqlite://", poolclass=NullPool)
    connection: Connection
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(insert(table), values)
        return connection.execute(select(table)).one()


@given(event=EVENTS)
def test_every_event_comes_back_as_it_was(event: JobEvent) -> None:
    values = event_values(event)
    assert values["payload"].isascii()
    stored = stored_event_of(through_database(schema.events, {**values, "seq": 7}))
    assert (stored.seq, stored.event) == (7, event)


@given(job=built(Job, TEXT))
def test_every_job_comes_back_as_it_was(job: Job) -> None:
    assert job_of(through_database(schema.jobs, job_values(job))) == job


@given(output=built(Output, TEXT))
def test_every_output_comes_back_as_it_was(output: Output) -> None:
    assert output_of(through_database(schema.outputs, output_values(output))) == output


@given(text=ANY_TEXT)
def test_any_text_can_be_stored(text: str) -> None:
    stored = storable(text)
    assert stored is not None
    assert "\0" not in stored
    assert stored.encode("utf-8").decode("utf-8") == stored
    if "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert stored == text


@given(
    graph=st.dictionaries(
        ANY_TEXT,
        st.recursive(st.none() | st.booleans() | st.integers() | FLOAT | ANY_TEXT, st.lists, max_leaves=5),
    )
)
def test_a_graph_comes_back_as_it_was(graph: dict[str, Any]) -> None:
    text = Texts.of(graph, None).graph
    assert text.isascii()
    assert graph_of(text) == graph
    assert list(graph_of(text)) == list(graph)
