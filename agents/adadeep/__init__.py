"""AdaDeep's optimiser: two phases, each with a deep Q-network over techniques and an actor-critic for the strength."""
