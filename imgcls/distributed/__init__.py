"""Devices and processes: the mesh, the cluster, and how processes connect and stop."""
