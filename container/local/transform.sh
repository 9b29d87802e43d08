#!/usr/bin/env bash
# Label DATA/eval in Docker as batch transform does: start the server, send it every image, stop it in every case.
#
#   DATA=demo OUT=out container/local/transform.sh [options of container/transform.py]
#
# GPU=-gpu takes the GPU services of docker-compose.yml. One compose project for each OUT keeps two runs apart.
set -u
export COMPOSE_PROFILES=batch,gpu
COMPOSE_PROJECT_NAME=transform-$(printf %s "${OUT:-out}" | cksum | cut -d ' ' -f 1)
export COMPOSE_PROJECT_NAME

stop() { docker compose down --timeout 5 2>/dev/null; }

finish() {
  status=$?
  # If there are no predictions, the server knows why.
  test "$status" = 0 || docker compose logs --no-log-prefix "transform-server${GPU:-}" >&2
  stop
  exit "$status"
}

stop
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
docker compose run --rm "transform${GPU:-}" "$@"
