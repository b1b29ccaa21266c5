"""The operations as plain requests and answers, bytes included."""
