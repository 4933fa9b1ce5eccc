"""The demo: the whole journey on drawn scenes, against a Label Studio of our own."""
