"""Ports for servers that can't be asked for the one that they took."""

import socket

HOST = "127.0.0.1"


def free_port() -> int:
    """Free a moment ago: a server that finds it taken has to be started again."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
