"""The machine: egress allow-list, electric power, memory settings of the process."""
