"""Pure code: numpy and the standard library. No I/O, no clock, no hidden randomness."""
