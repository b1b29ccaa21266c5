"""MCP over Streamable HTTP on the sidecar's port."""
