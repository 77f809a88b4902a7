"""What durability costs on this machine: an ordinary function app, run by the host and started through its client."""
