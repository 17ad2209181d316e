"""What this machine and its Python environment are. Standard library only."""
