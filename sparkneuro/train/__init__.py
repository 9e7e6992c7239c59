"""Model + batches -> weights, by Downpour SGD against a parameter server (Dean et al. 2012).

Read in this order: `weights`, `update_rules`, `ledger`, `warm_up`, `parameter_server` (one shard, no network), `transport` and
`client` (Arrow Flight), `server_group` (the processes), `gradients`, `downpour` (one worker), `spark`, `estimator`.
"""
