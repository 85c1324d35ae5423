"""One policy for many demands, devices and networks, that answers without training."""
