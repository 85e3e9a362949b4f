"""What do all rooms need? Checks of arguments and entries, processes, random numbers."""
