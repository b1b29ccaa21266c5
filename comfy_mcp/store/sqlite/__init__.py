"""What only SQLite needs: its file, its threads, its locks and its errors."""
