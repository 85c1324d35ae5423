"""What a network is made of: its operators with their shapes, and the couplings between its layers."""
