"""What all tests rely on."""

import signal

# A job that was started in the background ignores Ctrl-C, and so does all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
