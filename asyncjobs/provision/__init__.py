"""Builds a stack: resources, their graph, a plan, and the engine that carries it out."""
