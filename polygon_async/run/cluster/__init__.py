"""The engine for many machines: one coordinator, Dask workers, one budget of requests.

`engine` coordinates, `opening` finds the workers and checks them, `owner` lives in the scheduler, `site` in a worker.
"""
