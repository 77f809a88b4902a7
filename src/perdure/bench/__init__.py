"""What durability costs on this machine: ordinary function apps, run by the host and started through its client."""
