"""The pages for people: what goes on, and the interactive documentation."""
