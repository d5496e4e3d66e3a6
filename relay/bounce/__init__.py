"""Delivery status notifications: who is told of a failed, late or delivered message, and what the notification says."""
