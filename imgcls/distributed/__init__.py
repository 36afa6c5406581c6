"""Devices and processes: the mesh, the cluster, and how processes meet and stop."""
