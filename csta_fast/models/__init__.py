"""Networks with coupled spatial-temporal attention."""
