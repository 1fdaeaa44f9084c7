"""The box: egress allow-list, electric power, memory of the process."""
