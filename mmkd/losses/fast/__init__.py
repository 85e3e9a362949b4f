"""How are losses computed in little time and memory? Closed forms, pieces, kernels."""
