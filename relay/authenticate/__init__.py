"""What is known of who sent a message: SPF today, and the Authentication-Results field that says it."""
