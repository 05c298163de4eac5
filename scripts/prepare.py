"""The same as `seq2seq prepare`, for those who launch scripts."""

import sys

from seq2seq.cli import main

sys.argv.insert(1, "prepare")
main()
