"""What all requests share: the pace, and patience with a failing API."""
