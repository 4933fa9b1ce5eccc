"""Commands about the data folder as a whole, in files of their own: :mod:`bridge.cli` puts them among the others."""
