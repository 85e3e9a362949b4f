"""What does a training step add? Networks learn, teachers are observed, terms are computed."""
