"""What does one entry of ``distill`` compare? Points, levels, columns, connectors."""
