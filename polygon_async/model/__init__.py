"""Values and names that every wing shares."""
