"""Samples in the documentation that a run of the demo prints, so that they are the program's own words.

`python -m tools.samples` (`make samples`) runs `srs-relay demo` and puts its output and its log into the pages. A test
runs it too, and fails where a page shows anything that the program does not print.
"""
