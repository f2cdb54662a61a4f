"""What quickstart.py is made of: the environment, the server, the templates. Standard library only."""
