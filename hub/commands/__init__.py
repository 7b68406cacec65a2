"""The commands of `edge-hub` that speak HTTP to a hub that runs."""
