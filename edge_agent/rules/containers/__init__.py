"""Pure: what a container task may ask for, what the engine is told, and how an end is called."""
