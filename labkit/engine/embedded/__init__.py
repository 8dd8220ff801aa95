"""The embedded machine: several Docker Engines in one virtual machine of an ordinary user."""
