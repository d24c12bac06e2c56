# The README's two commands, in an image with the versions of constraints.txt:
#   docker build -t lla .
#   docker run --rm -v "$PWD/results:/lla/results" lla tables
#   docker run --rm lla tests
# A data root goes to /data: -v /path/to/data:/data:ro
#
# python:3.11-slim has every tool that the commands need. Pin it by digest
# (docker buildx imagetools inspect python:3.11-slim) where builds must be equal bit for bit.
FROM python:3.11-slim

WORKDIR /lla
COPY . .
ENV LLA_DATA=/data PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# what the commands install by themselves, so that a container needs no network; the report of pip
# has the SHA-256 of every file that was installed
RUN mkdir -p /data \
    && python3 -m pip install -q --upgrade --target .boot -c constraints.txt tox \
    && PYTHONPATH=.boot python3 -m tox run -e tests --notest \
    && .tox/lla/bin/python -m pip install -q --dry-run --ignore-installed --report /lla/installed.json \
        -c constraints.txt ".[test]"

ENTRYPOINT ["/lla/.docker/run"]
CMD ["tests"]
