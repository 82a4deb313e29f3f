#!/bin/sh
# Resolves one lock anew: `infra/lock.sh run|dev|bootstrap|images`. No address of an index gets into the file.
set -eu
cd "$(dirname "$0")/.."
case $1 in
bootstrap)
    version=$(.venv/bin/uv --version | cut -d' ' -f2)
    echo "uv==$version" | .venv/bin/uv pip compile - --quiet --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --python-version 3.11 --output-file requirements/bootstrap.txt
    ;;
run | dev)
    group=all
    [ "$1" = run ] || group=dev
    .venv/bin/uv pip compile --quiet --group "$group" --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --python-version 3.11 --output-file "requirements/$1.txt"
    ;;
images)
    # What runs in a container is what runs on this machine, part by part.
    for part in ingest features trainer serving monitor client loadtest; do
        # Images take wheels alone; PySpark is published as source, with nothing in it to compile.
        sources=
        [ "$part" != features ] || sources="--no-binary pyspark --emit-build-options"
        # shellcheck disable=SC2086
        .venv/bin/uv pip compile --quiet --group "$part" --constraint requirements/run.txt --generate-hashes $sources \
            --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11 \
            --output-file "requirements/images/$part.txt"
    done
    ;;
esac
