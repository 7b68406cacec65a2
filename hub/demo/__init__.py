"""`edge-hub demo`: a private broker, a hub and three workers on this machine, with a few tasks for them."""
