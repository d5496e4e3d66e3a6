"""Samples in the documentation that the program prints, so that they are its own words.

`python -m tools.samples` (`make samples`) runs `srs-relay demo` and `srs-relay aliases`, and puts their output and the
log of the demo into the pages. A test runs them too, and fails where a page shows anything that the program does not
print.
"""
