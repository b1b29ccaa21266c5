"""Sockets that only listen: to client ids under which prompts were submitted before.

ComfyUI sends a prompt's events to the newest socket of the client id that it was posted with. After a
takeover, or after a connection that broke, that id is not the present one. Nothing is posted under an id that
is followed, so a socket of somebody else that unregisters it (quirk: an old one that closes late) costs what
would have been lost anyway. docs/decisions/0005-websocket-client-id.md.
"""

import asyncio
from collections.abc import Callable, Set

from comfy_mcp.domain.events import EngineEvent
from comfy_mcp.places.comfyui.listener import Listener
from comfy_mcp.places.comfyui.transport import Transport
from comfy_mcp.settings import EngineGroup


class Followers:
    """One socket for each id that is wanted, while `run` runs."""

    def __init__(self, transport: Transport, settings: EngineGroup) -> None:
        self._transport = transport
        self._settings = settings
        self._wanted: Set[str] = frozenset()
        self._changed = asyncio.Event()

    def want(self, client_ids: Set[str]) -> None:
        """From now on these and no others. Cheap when nothing changes."""
        if client_ids != self._wanted:
            self._wanted = frozenset(client_ids)
            self._changed.set()

    async def run(self, hear: Callable[[EngineEvent], None]) -> None:
        """Until cancelled. `hear` gets the events that are about a prompt: the others are about the
        socket, or reach the listener too."""

        def pass_on(event: EngineEvent) -> None:
            if getattr(event, "prompt_id", None) is not None:
                hear(event)

        following: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                for client_id in following.keys() - self._wanted:
                    following.pop(client_id).cancel()
                for client_id in self._wanted - following.keys():
                    listener = Listener(self._transport, self._settings, follows=client_id)
                    following[client_id] = tasks.create_task(listener.run(pass_on), name="follower")
                await self._changed.wait()
