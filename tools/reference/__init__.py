"""The reference, generated from the program: config/relay.toml, config/examples, two pages of docs/, parts of the pages
about the three uses, and the manual pages.

`make reference` writes them all. tests/config/test_reference.py says if a checked-in file differs.
"""
