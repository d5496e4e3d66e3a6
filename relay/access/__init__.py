"""Access tables: clients, senders and recipients that are let in, refused or held, as Postfix's access(5) has them."""
