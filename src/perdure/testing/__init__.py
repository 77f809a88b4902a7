"""Virtual time, faults and simulation: the whole engine in one thread, in an order drawn from a seed."""
