"""Files: models and outputs on disk and over HTTP, previews, workflow files."""
