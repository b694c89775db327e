"""What a person sees: data on stdout, everything else on stderr, live display only on a terminal."""
