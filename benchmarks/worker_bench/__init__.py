"""The parts of benchmarks/worker.py."""
