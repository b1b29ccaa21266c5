"""One capability of the product, as every surface sees it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Generic, Literal, TypeVar

from pydantic import ValidationError

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, carrying
from comfy_mcp.operations.argument_errors import MAX_ENTRIES, explained
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.context import OperationContext, require_right
from comfy_mcp.operations.ids import whole_ids
from comfy_mcp.operations.repairs import repaired
from comfy_mcp.operations.shapes import Params, Result

P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation(Generic[P, R]):
    """One capability.

    The hints are MCP's tool annotations and decide the HTTP method too: a read-only operation is a GET.
    MCP offers it as a tool, and as a resource where there is a `resource`, its URI or template;
    `resource_only`: not as a tool. `only` names the surfaces that have it, where MCP has it not at all: over
    HTTP what sends bytes, which a model can't; on the command line what a person at the machine decides; both
    for what people and their programs decide, and no model. `raises` are the codes that a caller can meet
    beside those of any call (a wrong argument, a missing right, a store that does not answer). `example` is
    an answer; None where it is bytes.
    """

    name: str
    title: str
    description: str
    params: type[P]
    result: type[R]
    handler: Callable[[OperationContext, P], Awaitable[R]]
    right: Right
    raises: tuple[ErrorCode, ...]
    read_only: bool
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False
    resource: str | None = None
    resource_only: bool = False
    only: Literal["http", "cli", "http and cli"] | None = None
    example_call: Mapping[str, Any] | None = None
    example: Mapping[str, Any] | None = None

    @property
    def tool(self) -> bool:
        return self.only is None and not self.resource_only

    async def call(self, context: OperationContext, arguments: Mapping[str, Any]) -> R:
        """Validate `arguments` and run. The result, or the error, has a warning for each argument that was
        changed.

        Raises Denied without the right, InvalidInput naming each field, or what the handler raises.
        """
        require_right(context.caller, self.right, self.name)
        if len(arguments) > MAX_ENTRIES:
            known, repairs = await beside(True, self.understood, arguments)
        else:
            known, repairs = self._understood(arguments)
        context.found.extend(repairs)
        with carrying(context.found):
            params, more = await whole_ids(context, known)
            repairs += more
            if repairs:
                context.found.extend(more)
                context = replace(context, repairs=repairs)
            result = await self.handler(context, params)
        if _takes_fields(self.params) and params.fields is not None:  # type: ignore[attr-defined]
            result = result.with_fields(params.fields)  # type: ignore[attr-defined]
        return result.with_repairs(repairs) if repairs else result

    def _understood(self, arguments: Mapping[str, Any]) -> tuple[P, tuple[str, ...]]:
        """The arguments as they are meant, and a warning for each one that was changed.

        A client that polls sends the same id again and again: a single short text is kept as it was
        understood.
        """
        if len(arguments) == 1:
            ((name, value),) = arguments.items()
            if type(value) is str and len(value) <= _ID_CHARS:
                return _understood_before(self, name, value)
        return self.understood(arguments)

    def understood(self, arguments: Mapping[str, Any]) -> tuple[P, tuple[str, ...]]:
        """As `_understood`, of any arguments. Raises InvalidInput."""
        taken, repairs = repaired(self.name, self.params, arguments)
        with carrying(repairs):
            return self.parse(taken), repairs

    def parse(self, arguments: Mapping[str, Any]) -> P:
        """Raises InvalidInput naming each field."""
        try:
            return self.params.model_validate(arguments)
        except ValidationError as error:
            message, step = explained(self.name, self.params, error)
            raise InvalidInput(message, next_step=step) from None


@cache
def _takes_fields(params: type[Params]) -> bool:
    return "fields" in params.model_fields


_ID_CHARS = 64
"""Of an argument that is kept as it was understood."""


@lru_cache(maxsize=256)
def _understood_before(operation: Operation[P, R], name: str, value: str) -> tuple[P, tuple[str, ...]]:
    return operation.understood({name: value})
