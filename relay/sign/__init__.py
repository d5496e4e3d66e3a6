"""The forwarder's own keys and signatures."""
