"""One reward a file; each reads a metrics record and returns a number."""
