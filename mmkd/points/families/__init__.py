"""Where are the points in models of one family? One file each."""
