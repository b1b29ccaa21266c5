"""What the bridge costs, measured: `python -m bench` prints tables and writes docs/performance.md."""
