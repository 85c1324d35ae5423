"""The engines that execute operators and whole networks."""
