"""The decision process: Gymnasium environments, observations and rewards."""
