"""Contract suites for authors of agents, rewards, techniques and hardware models."""
