"""From a network to C: the layer-wise representation, the passes over it, and the code that is emitted."""
