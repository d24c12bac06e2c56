"""The view: tables as plain values, and the formats that are written from them."""
