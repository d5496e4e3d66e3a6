"""The load that the README's figures come from: everything on loopback, bounded in count and time."""
