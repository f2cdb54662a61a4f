"""Published models: which there are, and how fetch.py gets them."""
