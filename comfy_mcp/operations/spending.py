"""Who may use partner nodes, and what they should know before."""

from collections.abc import Sequence

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import Denied
from comfy_mcp.domain.partner_nodes import PartnerNode, named
from comfy_mcp.operations.context import OperationContext


def spending(context: OperationContext, partners: Sequence[PartnerNode]) -> tuple[str, ...]:
    """Warnings about the partner nodes of a workflow. Raises Denied (`forbidden`) without the right."""
    if not partners:
        return ()
    caller = context.caller
    if Right.SPEND not in caller.rights:
        raise Denied(
            f"This workflow uses partner nodes, which cost Comfy credits: {named(partners, prices=False)}. "
            f"That needs the right {Right.SPEND.value!r}",
            next_step="Replace these nodes, or use a key with this right: "
            "`comfy-bridge keys add NAME --right submit --right spend …` makes one.",
        )
    if context.services.settings.comfy_org_key_of(caller.client) is not None:
        return priced(partners)
    missing = f"No Comfy API key is set for the client {caller.client!r}, so they will probably fail"
    return (*priced(partners), f"{missing}: set COMFY_BRIDGE_COMFY_ORG_API_KEY.")


def priced(partners: Sequence[PartnerNode]) -> tuple[str, ...]:
    """A warning with their prices, if there are any."""
    return (f"Partner nodes, which cost Comfy credits: {named(partners, prices=True)}.",) if partners else ()
