"""What all tests share."""

import signal

# A shell that starts the tests in the background makes them ignore Ctrl-C, which some test.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What ends the tests in good order (a time limit) lets them clean up, too.
signal.signal(signal.SIGTERM, signal.default_int_handler)
