"""What does a training step add? Networks learn, teachers are asked, matches compare."""
