"""The store in a PostgreSQL database, which several machines can share."""
