"""Networks as plain torch modules: no Lightning, no files."""
