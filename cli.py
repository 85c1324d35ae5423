"""The console command `espalier`."""
