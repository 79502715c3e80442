#!/bin/sh
# Prints the first Python of 3.11 or newer that can make a virtual environment; one line on stderr when there is none.
old=""
for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
  version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  if ! "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    old="$old $name is $version;"
  elif ! "$name" -c 'import ensurepip, venv' 2>/dev/null; then
    old="$old $name ($version) lacks venv or ensurepip (on Debian: the package python$version-venv);"
  else
    echo "$name"
    exit 0
  fi
done
echo "No usable Python 3.11 or newer:${old:- none was found on the PATH;} install one, or name it: make PYTHON=/path/to/python3" >&2
exit 1
