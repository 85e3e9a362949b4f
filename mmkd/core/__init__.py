"""What does everything stand on? Arguments, entries of a config, processes, random numbers."""
