"""Put slow work behind an API on AWS, and run the same stack on a laptop."""

__version__ = "0.1.0"
