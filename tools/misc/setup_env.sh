#!/bin/sh
# Finds Python 3.11 and hands over to setup_env.py, which says what it does.
# Usage: [PYTHON=/path/to/python3.11] sh tools/misc/setup_env.sh [--dev] [--venv DIR] [--force]

script="$(dirname "$0")/setup_env.py"

version_is() {
  "$1" -c "import sys; sys.exit(not (sys.version_info[:2] $2 (3, 11)))" >/dev/null 2>&1
}

if [ -n "$PYTHON" ]; then
  if ! version_is "$PYTHON" '>='; then
    echo "PYTHON=$PYTHON is not a Python of version 3.11 or later." >&2
    exit 1
  fi
  version_is "$PYTHON" '==' || echo "Warning: only Python 3.11 is tested; using $PYTHON." >&2
  exec "$PYTHON" "$script" "$@"
fi

for candidate in python3.11 /usr/bin/python3.11 python3 python; do
  if version_is "$candidate" '=='; then
    exec "$candidate" "$script" "$@"
  fi
done

cat >&2 <<'END'
Python 3.11 is missing. Install it and run the same command again:
  Debian, Ubuntu  sudo apt-get install python3.11 python3.11-venv python3.11-dev
  Fedora          sudo dnf install python3.11 python3.11-devel
  macOS           brew install python@3.11
  any             uv python install 3.11    or    pyenv install 3.11
If it lies elsewhere, name it: make quickstart PYTHON=/path/to/python3.11
END
exit 1
