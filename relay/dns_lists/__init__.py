"""DNS lists (RFC 5782): how they are asked, whether they can be believed, and what they make of a client."""
