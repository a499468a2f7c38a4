#!/bin/sh
# The situations from real life that lie beside a checkout, ../shared/cases, one folder of them. Skipped (77) where they are not.
# usage: tests/cases.sh FOLDER, with CINCH_SOURCE_DIR and CINCH_BIN in the environment
cases=$CINCH_SOURCE_DIR/../shared/cases
if [ ! -x "$cases/run" ] || [ ! -d "$cases/$1" ]; then
    echo "skipped: there is no ../shared/cases/$1 beside this checkout"
    exit 77
fi
cd "$CINCH_SOURCE_DIR" && BIN=$CINCH_BIN exec "$cases/run" "$1"
