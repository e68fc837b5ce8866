"""The workloads, a module for each group: its list WORKLOADS."""
