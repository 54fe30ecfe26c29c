"""Feetech STS servos through Feetech's SDK."""
