"""Build the machine's files from Debian packages, and keep them in a cache."""
