"""The benchmark from a checkout: the same as `metalloid bench`, with the same options."""

import sys

from metalloid.cli.app import app

if __name__ == "__main__":
    app(["bench", *sys.argv[1:]], prog_name="bench/run.py")
