"""The networks that come with Espalier."""
