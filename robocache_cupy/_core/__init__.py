"""The mechanism every op shares: adapters of frameworks, plans, kernel pairs, checks."""
