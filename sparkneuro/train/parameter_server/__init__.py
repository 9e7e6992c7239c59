"""The parameter server: weights that many workers read and change at once, each batch once, whatever fails.

In the order of a push: `push` is what a worker says; `wire`, `secure_flight`, `transport`, `shard_client` and `client` bring it;
`ledger`, `warm_up` and `pace` decide whether and when it counts; `update_rules` apply it; `server` is one shard of all that;
`checkpoint` writes it down; `server_process`, `server_group` and `directory` keep shards alive and found. It knows neither Keras
models nor Spark.
"""
