"""DYNAMIXEL X servos, protocol 2.0, through ROBOTIS's SDK."""
