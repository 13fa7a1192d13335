"""What all requests share: the token bucket, the search for the plan's rate, patience, and outages.

A part of `polygon`. Read `limiter` first, then `auto`, which finds the rate.
"""
