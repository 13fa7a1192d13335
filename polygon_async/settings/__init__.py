"""What was asked for: flags, environment, universe."""
