"""How long an upstream of a route may take, unless the route says otherwise. Seconds.

The command line needs these without the models: importing pydantic takes longer than a command.
"""

CONNECT_S = 5.0
METADATA_S = 60.0
ZIP_S = 900.0
