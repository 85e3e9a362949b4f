"""Can this file be trusted, and does it fit? Read, verify, keep, resume."""
