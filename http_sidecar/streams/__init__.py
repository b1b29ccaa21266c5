"""What follows workflows as they run: WebSocket and Server-Sent Events."""
