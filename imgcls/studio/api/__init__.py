"""The studio's HTTP interface: one router per tab."""
