"""The command of another package, such as papermill, which begins in a third of the time.

What reads notebooks imports jsonschema, and that compiles a grammar of web addresses: 0.8 s of
every process, for a kind of field that no notebook has. Without the grammar it checks all else.
This file is run as a script; the command ``dmf`` imports it for the same end.
"""

import sys
from importlib.metadata import entry_points

sys.modules.setdefault("rfc3987_syntax", None)

if __name__ == "__main__":
    del sys.argv[0]
    (command,) = entry_points(group="console_scripts", name=sys.argv[0])
    sys.exit(command.load()())
