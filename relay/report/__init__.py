"""What the relay says of its work: delivery status notifications, metrics, health."""
