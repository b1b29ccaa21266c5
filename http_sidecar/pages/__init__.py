"""The pages for people: the dashboard, and the interactive documentation."""
