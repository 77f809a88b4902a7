"""Where a task hub is kept. `api` is the contract; each store is told what to write and decides nothing."""
