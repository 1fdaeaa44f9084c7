"""Read models of the log: run summary, cost, monitoring, export; and how pages and plots are drawn."""
