"""The wire: everything that an edge agent and a hub must agree on, and the only code that knows MQTT.

`topics` and `messages` are the contract, `link` is one connection, `local` starts a private broker. Settings and
logging are read and written the same way by both programs, so they live here too.
"""

__version__ = "0.1.0"
