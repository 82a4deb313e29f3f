"""Several serving processes behind one port."""
