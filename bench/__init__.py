"""The benchmarks behind the README's figures: everything on loopback, limited in count and time."""
