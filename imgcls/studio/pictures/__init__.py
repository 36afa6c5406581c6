"""Files of the studio: what arrives, and what the page shows of it."""
