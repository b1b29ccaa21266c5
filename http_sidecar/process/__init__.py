"""The sidecar as a process: its server, and its start and end."""
