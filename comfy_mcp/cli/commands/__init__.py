"""The commands and their options. What they do is imported when one of them runs, so --help is fast."""
