"""The engine for many machines: one coordinator, Dask workers, one budget of requests.

`coordination` hands out the units, `engine` and `opening` are its cluster, `owner` lives in the scheduler, `site` and
its `worker_pipeline` in a worker.
"""
