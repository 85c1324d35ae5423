"""Architecture spaces whose networks others have measured: strings into operators, and readers of the measurements."""
