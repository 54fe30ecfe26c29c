"""What bytes and frames travel through: serial ports and CAN interfaces."""
