"""How the embedded models were made and what was measured: nothing of the pack uses it."""
