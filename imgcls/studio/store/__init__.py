"""Tables of the studio and what changes them: plain functions on a database connection."""
