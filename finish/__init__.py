"""From the best plans of a search to a delivered network."""
