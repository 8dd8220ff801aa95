"""User-Mode Linux as the machine: a kernel that is an ordinary program."""
