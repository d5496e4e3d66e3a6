"""Whether configuration and live DNS let mail pass: findings, each with its mend, and the way home of bounces."""
