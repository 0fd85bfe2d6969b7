"""What the Python tests share: processes, clusters, clients, damage, and checkers."""
