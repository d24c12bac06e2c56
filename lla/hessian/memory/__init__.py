"""How a spectrum is made in the memory that there is."""
