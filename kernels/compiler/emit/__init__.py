"""C for each kind of layer."""
