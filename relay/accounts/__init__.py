"""Who may submit mail: users, their passwords and senders, Dovecot as their judge, and limits on failed logins."""
