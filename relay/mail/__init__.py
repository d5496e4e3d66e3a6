"""What every stage shares: message, envelope, addresses, mailbox and tag lists, SMTP reply, outcome, queue id."""
