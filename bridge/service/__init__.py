"""The standing service: it watches targets and takes them through the journeys by itself."""
