"""From an SMTP transaction to the queue: what MAIL, RCPT and DATA lead to."""
