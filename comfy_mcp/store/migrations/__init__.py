"""The schema's history, run by the store itself when it opens an older file."""
