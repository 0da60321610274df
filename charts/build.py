"""The chart's file: `make chart` packs charts/moorage into dist/.

`python charts/build.py --schema` writes the names of all settings into the chart's
values.schema.json, so that Helm refuses a misspelt one. `make check` compares, by `--check`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "moorage"
SCHEMA = CHART / "values.schema.json"


def settings_of_values() -> dict[str, Any]:
    """Return the schema of the value `settings`: name and type of each setting.

    Templates refuse secrets, and those that other values set, with a message that says so.
    """
    sys.path.insert(0, str(ROOT))
    from app.settings.reference import all_settings

    return {
        setting.variable: (
            {"type": ["array", "string"]}
            if setting.is_list
            else {"type": ["string", "number", "boolean"]}
        )
        for setting in all_settings()
    }


def written_schema() -> str:
    """Return values.schema.json with the settings of this program."""
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"]["properties"] = settings_of_values()
    return json.dumps(schema, indent=2) + "\n"


def main() -> None:
    """Pack the chart, or write its schema."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schema", action="store_true", help="only write values.schema.json")
    parser.add_argument("--check", action="store_true", help="only compare it")
    options = parser.parse_args()
    if options.schema:
        SCHEMA.write_text(written_schema())
        return
    if options.check:
        if SCHEMA.read_text() != written_schema():
            sys.exit(f"{SCHEMA} would change: run .venv/bin/python charts/build.py --schema")
        return
    from helm_python import package

    (ROOT / "dist").mkdir(exist_ok=True)
    print(package(CHART, destination=ROOT / "dist"))


if __name__ == "__main__":
    main()
