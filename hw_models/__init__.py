"""What a network costs on a device: lookup tables, roofline, live profiling, energy."""
