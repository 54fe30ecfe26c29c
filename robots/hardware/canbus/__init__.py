"""CAN drives that obey the "MIT mode" tuple: Damiao, RobStride, CyberGear."""
