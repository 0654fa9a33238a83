"""Networks in the form in which they leave this repository."""
