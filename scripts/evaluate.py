"""The same as `seq2seq evaluate`, for those who launch scripts."""

import sys

from seq2seq.cli import main

sys.argv.insert(1, "evaluate")
main()
