"""What do all packages need? Checks of arguments and entries, processes, random numbers."""
