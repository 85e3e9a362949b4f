"""Fast and memory-efficient losses: closed forms, computation in chunks, kernels."""
