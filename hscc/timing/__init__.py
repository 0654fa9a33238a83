"""How long a network takes, and how drift of the machine's clock is kept out of it."""
