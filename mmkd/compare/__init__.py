"""What does one line of ``distill`` compare? Points, levels, columns, connectors."""
