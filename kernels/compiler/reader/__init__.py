"""From a PyTorch module to the compiler's layers, by way of torch.export."""
