"""Checks large workflows in a process of their own, so that nobody waits for them."""
