"""The reference, generated from the program: config/relay.toml, two pages of docs/, and the manual pages.

`make reference` writes them all. tests/config/test_reference.py says if a checked-in file differs.
"""
