"""What each command does. `cli.py` parses; these modules do the work, and import what they need only when they run."""
