"""`python -m espalier` is the console command."""
