"""The view: tables as plain values, and the writers of all formats."""
