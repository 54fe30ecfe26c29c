"""Motors that exist only as programs: they speak the wire protocols, with physics on the shaft. Imports no driver."""
