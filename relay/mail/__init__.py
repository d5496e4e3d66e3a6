"""What every stage shares: messages, addresses, mailbox lists, tag lists, domain names, SMTP replies, queue ids."""
