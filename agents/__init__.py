"""Who decides: Stable-Baselines3 algorithms and the baselines, behind one interface."""
