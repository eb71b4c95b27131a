"""This machine: devices, memory, versions, prices."""
