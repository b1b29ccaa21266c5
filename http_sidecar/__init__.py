"""The HTTP sidecar: the operations over REST, WebSocket, SSE and Prometheus, with MCP on the same port."""
