"""How a spectrum is computed within the available memory."""
